// Conversations, kept in this browser unless that is switched off. One entry of the store each, newest first.
import { signal } from "@preact/signals";
import { settings } from "./options";
import { newId, settle, type Conversation } from "./turn";

const PREFIX = "local-fusion/conversation/";
const OPEN = "local-fusion/open";
const KEPT_AT_MOST = 100;

export const conversations = signal<Conversation[]>(load());
export const storeProblem = signal("");
export const current = signal<Conversation>(reopened() ?? fresh());

function fresh(): Conversation {
  return { id: newId(), title: "", changed: Date.now(), turns: [] };
}

function reopened(): Conversation | undefined {
  const id = sessionStorage.getItem(OPEN);
  return conversations.peek().find((one) => one.id === id);
}

function load(): Conversation[] {
  const found: Conversation[] = [];
  for (const key of Object.keys(localStorage).filter((name) => name.startsWith(PREFIX))) {
    try {
      const one = JSON.parse(localStorage.getItem(key) ?? "") as Conversation;
      if (typeof one.id !== "string" || !Array.isArray(one.turns)) continue;
      for (const turn of one.turns) if (turn.state === "running") settle(turn, "stopped");
      found.push(one);
    } catch {
      localStorage.removeItem(key);
    }
  }
  return found.sort((one, other) => other.changed - one.changed);
}

/** Put the conversation at the top of the list and into the store. */
export function keep(conversation: Conversation) {
  conversation.changed = Date.now();
  conversation.title ||= conversation.turns[0]?.question.trim().slice(0, 80) ?? "";
  const others = conversations.value.filter((one) => one !== conversation);
  conversations.value = [conversation, ...others].slice(0, KEPT_AT_MOST);
  for (const old of others.slice(KEPT_AT_MOST - 1)) localStorage.removeItem(PREFIX + old.id);
  if (current.value === conversation) sessionStorage.setItem(OPEN, conversation.id);
  if (settings.value.keep) store(conversation);
}

function store(conversation: Conversation) {
  const text = JSON.stringify(conversation);
  const oldest = conversations.value.filter((one) => one !== conversation).reverse();
  for (;;) {
    try {
      localStorage.setItem(PREFIX + conversation.id, text);
      storeProblem.value = "";
      return;
    } catch {
      const victim = oldest.find((one) => localStorage.getItem(PREFIX + one.id) !== null);
      if (!victim) {
        storeProblem.value = "This conversation is too large for the browser's store; it is lost at reload.";
        return;
      }
      drop(victim);
    }
  }
}

export function open(conversation: Conversation) {
  current.value = conversation;
  sessionStorage.setItem(OPEN, conversation.id);
}

export function begin() {
  current.value = fresh();
  sessionStorage.removeItem(OPEN);
}

export function drop(conversation: Conversation) {
  localStorage.removeItem(PREFIX + conversation.id);
  conversations.value = conversations.value.filter((one) => one !== conversation);
  if (current.value === conversation) begin();
}

export function clear() {
  clearStore();
  conversations.value = [];
  begin();
}

/** Switching the store off also empties it; switching it on stores what is on the screen. */
export function storeSwitched(on: boolean) {
  if (on) conversations.value.forEach(store);
  else clearStore();
}

function clearStore() {
  for (const key of Object.keys(localStorage)) if (key.startsWith(PREFIX)) localStorage.removeItem(key);
}
