// Who the page says it is: a token that was typed in, for as long as the tab is open, or one that the demo gives.

const KEY = "attune-token";

/** Keep a token that was typed in. */
export function keep(token) {
  sessionStorage.setItem(KEY, token);
}

/** Return a token or null; `again` if the last one was refused. */
export async function find(again) {
  if (again) sessionStorage.removeItem(KEY);
  return sessionStorage.getItem(KEY) ?? (await ofTheDemo());
}

async function ofTheDemo() {
  const tenant = new URLSearchParams(location.search).get("tenant");
  try {
    const answer = await fetch(`/demo/token${tenant === null ? "" : `?tenant=${encodeURIComponent(tenant)}`}`);
    return answer.ok ? (await answer.text()).trim() : null;
  } catch {
    return null; // the gateway has just gone; the connection tells
  }
}
