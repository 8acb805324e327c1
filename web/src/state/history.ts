// Conversations, kept in this browser unless that is switched off. One entry of the store each, newest first.
import { signal } from "@preact/signals";
import { settings } from "./options";
import { device, namesIn, tab } from "./store";
import { newId, settle, type Conversation, type Turn } from "./turn";

const PREFIX = "local-fusion/conversation/";
const OPEN = "local-fusion/open";
export const KEPT_AT_MOST = 500;

export const conversations = signal<Conversation[]>(load());
export const storeProblem = signal("");
export const current = signal<Conversation>(reopened() ?? fresh());

function fresh(): Conversation {
  return { id: newId(), title: "", changed: Date.now(), turns: [] };
}

function reopened(): Conversation | undefined {
  const id = tab.getItem(OPEN);
  return conversations.peek().find((one) => one.id === id);
}

function load(): Conversation[] {
  const found: Conversation[] = [];
  for (const key of namesIn(device).filter((name) => name.startsWith(PREFIX))) {
    try {
      const one = JSON.parse(device.getItem(key) ?? "") as Conversation;
      if (typeof one.id !== "string" || !one.turns.every(drawable)) continue;
      for (const turn of one.turns) if (turn.state === "running") settle(turn, "stopped");
      found.push(one);
    } catch {
      device.removeItem(key);
    }
  }
  return found.sort((one, other) => other.changed - one.changed);
}

/** What another version of the page kept may have another form. */
function drawable(turn: Turn) {
  return typeof turn.question === "string" && Array.isArray(turn.answers);
}

/** Put the conversation at the top of the list and into the store. */
export function keep(conversation: Conversation) {
  conversation.changed = Date.now();
  conversation.title ||= conversation.turns[0]?.question.trim().slice(0, 80) ?? "";
  const others = conversations.value.filter((one) => one !== conversation);
  conversations.value = [conversation, ...others].slice(0, KEPT_AT_MOST);
  for (const old of others.slice(KEPT_AT_MOST - 1)) device.removeItem(PREFIX + old.id);
  if (current.value === conversation) tab.setItem(OPEN, conversation.id);
  if (settings.value.keep) store(conversation);
}

function store(conversation: Conversation) {
  const text = JSON.stringify(conversation);
  const oldest = conversations.value.filter((one) => one !== conversation).reverse();
  for (;;) {
    try {
      device.setItem(PREFIX + conversation.id, text);
      storeProblem.value = "";
      return;
    } catch {
      const victim = oldest.find((one) => device.getItem(PREFIX + one.id) !== null);
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
  tab.setItem(OPEN, conversation.id);
}

export function begin() {
  current.value = fresh();
  tab.removeItem(OPEN);
}

export function drop(conversation: Conversation) {
  device.removeItem(PREFIX + conversation.id);
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
  for (const key of namesIn(device)) if (key.startsWith(PREFIX)) device.removeItem(key);
}
