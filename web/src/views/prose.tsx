// What a model says, as text. Markdown becomes elements by way of its tokens: no HTML is ever parsed or inserted, so a
// tag stays the characters it is made of. Images are never fetched; directional overrides are made visible.
import { lexer, type MarkedToken, type Token, type Tokens } from "marked";
import { Fragment, type ComponentChildren } from "preact";
import { useMemo } from "preact/hooks";
import { settings } from "../state/options";
import { CopyButton } from "./parts";

const DEEPEST = 24;
const LONGEST_MARKDOWN = 60_000;
const OVERRIDES = /([\u202a-\u202e\u2066-\u2069])/;

export function Prose({ text, markdown = true }: { text: string; markdown?: boolean }) {
  const wanted = markdown && settings.value.markdown && text.length <= LONGEST_MARKDOWN;
  const tokens = useMemo(() => (wanted ? tokensOf(text) : null), [text, wanted]);
  if (!tokens) return <div class="prose plain" dir="auto">{plain(text)}</div>;
  return <div class="prose" dir="auto">{blocks(tokens, 0)}</div>;
}

function tokensOf(text: string): Token[] | null {
  try {
    return lexer(text);
  } catch {
    return null; // nested beyond what the parser holds: shown as it is
  }
}

/** Text with each control that turns the direction of writing shown by its number. */
export function plain(text: string): ComponentChildren {
  if (!OVERRIDES.test(text)) return text;
  return text.split(OVERRIDES).map((part) =>
    OVERRIDES.test(part) ? (
      <span class="control" title="A character that turns the direction of the text">
        U+{part.charCodeAt(0).toString(16).toUpperCase()}
      </span>
    ) : (
      part
    ),
  );
}

function blocks(tokens: Token[], depth: number): ComponentChildren {
  return tokens.map((token, index) => <Fragment key={index}>{block(token as MarkedToken, depth)}</Fragment>);
}

function block(token: MarkedToken, depth: number): ComponentChildren {
  if (depth > DEEPEST) return plain(token.raw);
  switch (token.type) {
    case "space":
    case "def":
      return null;
    case "heading":
      return <p class={`heading h${token.depth}`} role="heading" aria-level={Math.min(6, token.depth + 3)}>{inline(token.tokens, depth)}</p>;
    case "paragraph":
      return <p dir="auto">{inline(token.tokens, depth)}</p>;
    case "code":
      return <Code text={token.text} language={token.lang ?? ""} />;
    case "blockquote":
      return <blockquote>{blocks(token.tokens, depth + 1)}</blockquote>;
    case "list":
      return list(token, depth);
    case "table":
      return table(token, depth);
    case "hr":
      return <hr />;
    case "html":
      return <p class="plain">{plain(token.raw.trimEnd())}</p>;
    case "text":
      return token.tokens ? <span>{inline(token.tokens, depth)}</span> : plain(token.text);
    default:
      return plain(token.raw);
  }
}

function list(token: Tokens.List, depth: number) {
  const items = token.items.map((item, index) => (
    <li key={index} class={item.task ? "task" : undefined}>
      {item.task && <span aria-label={item.checked ? "done" : "open"}>{item.checked ? "☑ " : "☐ "}</span>}
      {blocks(item.tokens.filter((one) => (one as Token).type !== "checkbox"), depth + 1)}
    </li>
  ));
  return token.ordered ? <ol start={Number(token.start) || 1}>{items}</ol> : <ul>{items}</ul>;
}

function table(token: Tokens.Table, depth: number) {
  return (
    <div class="scroll-x" tabIndex={0} role="region" aria-label="Table">
      <table>
        <thead>
          <tr>{token.header.map((cell, index) => <th key={index} class={cell.align ?? undefined}>{inline(cell.tokens, depth)}</th>)}</tr>
        </thead>
        <tbody>
          {token.rows.map((row, place) => (
            <tr key={place}>{row.map((cell, index) => <td key={index} class={cell.align ?? undefined}>{inline(cell.tokens, depth)}</td>)}</tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

function inline(tokens: Token[] | undefined, depth: number): ComponentChildren {
  return (tokens ?? []).map((token, index) => <Fragment key={index}>{span(token as MarkedToken, depth + 1)}</Fragment>);
}

function span(token: MarkedToken, depth: number): ComponentChildren {
  if (depth > DEEPEST) return plain(token.raw);
  switch (token.type) {
    case "strong":
      return <strong>{inline(token.tokens, depth)}</strong>;
    case "em":
      return <em>{inline(token.tokens, depth)}</em>;
    case "del":
      return <del>{inline(token.tokens, depth)}</del>;
    case "codespan":
      return <code>{plain(token.text)}</code>;
    case "br":
      return <br />;
    case "link":
      return <Link token={token} depth={depth} />;
    case "image":
      return <span class="aside">[image: {plain(token.text)} {plain(token.href)}]</span>;
    case "escape":
      return plain(token.text);
    case "text":
      return token.tokens ? inline(token.tokens, depth) : plain(token.text);
    case "html":
      return /^<br\s*\/?>$/i.test(token.raw) ? <br /> : plain(token.raw);
    default:
      return plain(token.raw);
  }
}

/** Only web addresses can be followed, on a click, telling nothing of this page; the address is always in sight. */
function Link({ token, depth }: { token: Tokens.Link; depth: number }) {
  const label = inline(token.tokens, depth);
  if (!/^https?:\/\//i.test(token.href)) return <>{label}{token.href && <span class="aside"> ({plain(token.href)})</span>}</>;
  const seen = token.text === token.href ? null : <span class="aside"> ({plain(token.href)})</span>;
  return <><a href={token.href} target="_blank" rel="noopener noreferrer nofollow">{label}</a>{seen}</>;
}

function Code({ text, language }: { text: string; language: string }) {
  return (
    <figure class="code">
      <figcaption>
        <span>{plain(language.slice(0, 40)) || "code"}</span>
        <CopyButton text={text} what="code" />
      </figcaption>
      <pre tabIndex={0}><code>{plain(text)}</code></pre>
    </figure>
  );
}
