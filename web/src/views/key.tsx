// Asks for the API key, once the server has said that it wants one.
import { useEffect, useRef, useState } from "preact/hooks";
import { apiKey, forgetKey, keyIsKept, keyVersion, keyWanted, useKey } from "../state/key";

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const [key, setKey] = useState("");
  const [keep, setKeep] = useState(keyIsKept());
  const refused = apiKey.value !== "";
  useEffect(() => {
    if (keyWanted.value && !dialog.current!.open) dialog.current!.showModal();
    if (!keyWanted.value) dialog.current!.close();
  }, [keyWanted.value]);
  return (
    <dialog ref={dialog} aria-labelledby="key-title" onCancel={() => (keyWanted.value = false)}>
      <article>
        <form onSubmit={(event) => { event.preventDefault(); useKey(key.trim(), keep); setKey(""); }}>
          <h2 id="key-title">API key</h2>
          <p>{refused ? "The server does not accept this key." : "This server wants a key."} Whoever runs it hands them out.</p>
          <label>
            Key
            <input type="password" value={key} autocomplete="off" spellcheck={false} required onInput={(event) => setKey(event.currentTarget.value)} />
          </label>
          <label>
            <input type="checkbox" checked={keep} onChange={(event) => setKeep(event.currentTarget.checked)} />
            Remember it on this device; otherwise it is forgotten with this tab
          </label>
          <footer>
            <button type="button" class="secondary" onClick={() => (keyWanted.value = false)}>Cancel</button>
            <button type="submit">Use key</button>
          </footer>
        </form>
      </article>
    </dialog>
  );
}

export function KeyButton() {
  return <button type="button" class="small" onClick={() => (keyWanted.value = true)}>Enter a key</button>;
}

export function ForgetKeyButton() {
  if (!apiKey.value) return null;
  const forget = () => {
    forgetKey();
    keyVersion.value++;
  };
  return <button type="button" class="quiet small" onClick={forget}>Forget the API key</button>;
}
