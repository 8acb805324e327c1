// The page: two views, one address each.
import { effect, signal, untracked } from "@preact/signals";
import { render } from "preact";
import { readCatalog } from "./state/catalog";
import { keyVersion } from "./state/key";
import { set, settings, type Theme } from "./state/options";
import { AskPage } from "./views/ask";
import { FleetPage } from "./views/fleet";
import { KeyDialog } from "./views/key";

const path = signal(location.pathname);
addEventListener("popstate", () => (path.value = location.pathname));

function Link({ to, children }: { to: string; children: string }) {
  const go = (event: MouseEvent) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.pushState(null, "", to);
    path.value = to;
  };
  return <a href={to} onClick={go} aria-current={path.value === to ? "page" : undefined}>{children}</a>;
}

const NEXT: Record<Theme, Theme> = { system: "light", light: "dark", dark: "system" };
const SIGNS: Record<Theme, string> = { system: "◐", light: "☀", dark: "☾" };

function ThemeButton() {
  const { theme } = settings.value;
  return (
    <button type="button" class="quiet small theme" title={`Colours: ${theme}`} aria-label={`Colours: ${theme}. Change to ${NEXT[theme]}`} onClick={() => set({ theme: NEXT[theme] })}>
      <span aria-hidden="true">{SIGNS[theme]}</span>
    </button>
  );
}

function Mark() {
  return (
    <svg viewBox="0 0 32 32" width="26" height="26" aria-hidden="true" class="mark">
      <rect width="32" height="32" rx="8" />
      <path d="M6 8c7 0 8 8 13 8M6 16h13M6 24c7 0 8-8 13-8" />
      <circle cx="23" cy="16" r="4.2" />
    </svg>
  );
}

function App() {
  return (
    <>
      <a class="skip" href="#main" onClick={(event) => { event.preventDefault(); document.getElementById(path.value === "/fleet" ? "main" : "question")?.focus(); }}>
        Skip to the {path.value === "/fleet" ? "engines" : "question"}
      </a>
      <header class="top">
        <span class="brand"><Mark /> local-fusion</span>
        <nav aria-label="Pages"><Link to="/">Ask</Link><Link to="/fleet">Fleet</Link></nav>
        <ThemeButton />
      </header>
      {path.value === "/fleet" ? <FleetPage /> : <AskPage />}
      <KeyDialog />
    </>
  );
}

effect(() => {
  void keyVersion.value;
  untracked(() => void readCatalog());
});
effect(() => {
  document.title = path.value === "/fleet" ? "Fleet · local-fusion" : "local-fusion";
});
render(<App />, document.getElementById("app")!);
