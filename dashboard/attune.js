// Tells Attune how a page is used, and shows what it answers. No dependencies; see docs/collector.md.
// Sends which element was used, never what is written in it, and nothing for those who ask not to be tracked.
(() => {
  const FLUSH_MS = 1000;
  const BATCH = 20; // below the 64 KiB of a beacon
  const KEPT = 500;
  const EFFECT_MS = 2500;

  let config = null;
  let queue = [];
  let sending = null; // the batch under way
  let due = false; // what waits behind it
  let told; // the last event of a beacon
  let held = []; // clicks whose effect is not known yet, before which the queue ends
  let offset; // of the collector's clock
  let failures = 0;
  let timer = 0;
  let pause = 0; // until then
  let place = "";
  let count = 0;
  const run = crypto.getRandomValues(new Uint32Array(2)).join("-");
  const undo = [];

  // A clock that is never set.
  const now = () => Math.round(performance.timeOrigin + performance.now());
  const on = (target, names, listener) => {
    for (const name of names.split(" ")) {
      target.addEventListener(name, listener, { capture: true, passive: true });
      undo.push(() => target.removeEventListener(name, listener, { capture: true }));
    }
  };
  const warn = (...said) => console.warn("attune:", ...said);
  const missed = (server) => warn(`no answer from ${server}: is it away, or ${location.origin} not among its origins?`);
  const backoff = (count) => Math.min(30000, 500 * 2 ** count) * (0.5 + Math.random() / 2);

  // ---- what is sent

  function push(type, fields, urgent) {
    if (!config) return null;
    const event = { type: "telemetry." + type, event_id: run + "-" + ++count, at: now(), ...fields };
    queue.push(event);
    while (queue.length > KEPT) queue.shift();
    if (urgent) hurry();
    else if (ready() >= BATCH) flush();
    else later(FLUSH_MS);
    return event;
  }

  // Nobody confirms a beacon: the next batch brings the same again, which counts once, since the offset is the same.
  // What is under way goes along, so that nothing overtakes it.
  function tell() {
    for (;;) {
      const all = [...(sending || []), ...queue];
      const news = all.slice(all.indexOf(told) + 1).slice(0, BATCH);
      if (!news.length || !navigator.sendBeacon(config.url, body(news))) return !news.length;
      told = news.pop();
    }
  }

  function hurry() {
    held = [];
    if (offset === undefined || pause > now() || !tell()) flush();
    else later(FLUSH_MS);
  }

  const pushOnPage = (type, fields, urgent) => push(type, { ...fields, page: page() }, urgent);
  const page = () => (config.page ? config.page() : document.body.dataset.attunePage) || "other";
  const ready = () => (held.length ? Math.max(0, queue.indexOf(held[0])) : queue.length);
  const body = (events) =>
    JSON.stringify({ session_id: config.session, user_id: config.user, sent_at: now(), offset_ms: offset, events });

  async function flush() {
    clearTimeout(timer);
    timer = 0;
    if (!config || sending) return (due = true);
    const rest = pause - now();
    if (rest > 0) return later(rest);
    if (offset !== undefined && !ready()) return;
    // The offset first: what goes again must have the same.
    sending = queue.splice(0, offset === undefined ? 0 : Math.min(BATCH, ready()));
    due = false;
    const [batch, whose, sent] = [sending, config, now()];
    let said = offset;
    let wait = 0;
    try {
      // Plain text: no browser asks for permission first.
      const request = { method: "POST", body: body(batch), keepalive: true, credentials: "omit" };
      const answer = await fetch(config.url, request);
      if (answer.ok) said = (await answer.json()).offset_ms;
      else if (answer.status === 408 || answer.status === 429 || answer.status >= 500)
        wait = Math.max(1000 * answer.headers.get("Retry-After"), backoff(failures));
      else {
        if (!batch.length) queue = [];
        warn("not accepted", answer.status, await answer.text());
      }
    } catch {
      if (!failures) missed(config.collector);
      wait = backoff(failures);
    }
    if (whose !== config) return;
    failures = wait ? failures + 1 : 0;
    pause = now() + wait;
    sending = null;
    if (wait) queue = batch.concat(queue);
    // Slow ways put it ahead, and the collector believes no more.
    if (said !== offset && !queue.includes(told)) offset = said - Math.max(0, now() - sent - 2000);
    if (queue.length) later(wait || (due || ready() >= BATCH ? 0 : FLUSH_MS));
  }

  function later(wait) {
    timer = timer || setTimeout(flush, wait);
  }

  // A page that is left waits for no answer. One that is hidden may go on.
  function leave(last) {
    release();
    tell();
    if (last || offset === undefined) queue = [];
  }

  // ---- what is seen

  const cut = (text) => String(text).slice(0, 250);
  const FIELDS = "input,select,textarea";
  const NAMED = "[data-attune],a,button,input,select,textarea,[role=button],[id]";
  const named = (target) => target.closest?.(NAMED) || document.documentElement;
  const name = (element) =>
    cut(element.dataset.attune || element.getAttribute("name") || element.id || element.tagName.toLowerCase());
  const ours = (target) => !target?.closest || target.closest("[data-attune-box]");

  // Forms write into the query; some pages are told apart by the fragment.
  const here = () => location.origin + location.pathname;
  const route = () => here() + (/^#[!/]/.test(location.hash) ? location.hash : "");

  function view() {
    if (route() === place) return;
    place = route();
    pushOnPage("page_view", { url: here().slice(0, 2000) });
  }

  /** Let clicks go (all, or one), with what came of them. */
  function release(outcome, click) {
    for (const one of click ? [click] : held) Object.assign(one, outcome);
    held = click ? held.filter((one) => one !== click) : [];
    if (queue.length) later(50);
  }

  function watchClicks() {
    let last = null;
    let pressed = 0;
    let changed = 0;
    const change = () => {
      changed = now();
      release({ effect: true });
    };
    const observer = new MutationObserver(change);
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    undo.push(() => observer.disconnect());
    on(window, "input change scroll popstate hashchange beforeunload", change);
    // A button takes the focus whether it works or not.
    on(document, "focusin", ({ target }) => target.matches(FIELDS) && change());
    on(window, "error unhandledrejection", () => {
      if (!held.length) return;
      Object.assign(held[held.length - 1], { error: true });
      hurry();
    });
    on(document, "pointerdown keydown", () => (pressed = now()));
    on(document, "click", ({ target, isTrusted, clientX: x, clientY: y }) => {
      const since = last ? now() - last.at : Infinity;
      // Not what a script clicks, nor a label for its field.
      if (!isTrusted || ours(target) || since < 5) return;
      const burst = since <= 1000 && Math.abs(x - last.x) + Math.abs(y - last.y) <= 30;
      const click = pushOnPage("click", { element: name(named(target)), x, y }, burst);
      last = click;
      if (burst) return;
      if (changed >= pressed) return Object.assign(click, { effect: true });
      held.push(click);
      setTimeout(() => held.includes(click) && release({ effect: false }, click), EFFECT_MS);
    });
  }

  function watchPointer() {
    let over = null;
    let since = 0;
    on(document, "mouseover", ({ target }) => {
      const element = ours(target) ? null : named(target);
      if (element === over) return;
      const duration = now() - since;
      if (over && duration >= 300) pushOnPage("hover", { element: name(over), duration_ms: duration });
      [over, since] = [element, now()];
    });
    on(document, "mouseout", ({ relatedTarget, clientX: x, clientY: y }) => {
      if (relatedTarget) return;
      const edge = y <= 0 ? "top" : x <= 0 || x >= innerWidth - 1 ? "side" : null;
      if (edge) pushOnPage("exit_intent", { edge }, true);
    });

    // Ten times a second while it moves, and once when it stands.
    const STEP_S = 0.1;
    let from = null;
    let at = null;
    let speed = 0;
    let steps = 0;
    let hardest = null;
    const look = () => {
      const velocity = Math.hypot(at[0] - from[0], at[1] - from[1]) / STEP_S;
      const deceleration = Math.max(0, (speed - velocity) / STEP_S);
      if (!hardest || deceleration >= hardest.deceleration)
        hardest = { velocity: Math.max(speed, velocity), deceleration };
      [from, speed] = [at, velocity];
      if (++steps % 3 && velocity) return;
      pushOnPage("pointer", hardest);
      hardest = null;
      if (!velocity) ticking = clearInterval(ticking);
    };
    let ticking;
    on(document, "mousemove", ({ clientX, clientY }) => {
      at = [clientX, clientY];
      if (ticking) return;
      [from, speed, steps] = [at, 0, 0];
      ticking = setInterval(look, 1000 * STEP_S);
    });
    undo.push(() => clearInterval(ticking));
  }

  function watchScrolling() {
    let then = now();
    let before = scrollY;
    on(window, "scroll", () => {
      const passed = now() - then;
      if (passed < 250) return;
      const moved = scrollY - before;
      // A rest is no part of the movement.
      const velocity = (1000 * Math.abs(moved)) / Math.min(passed, 500);
      [then, before] = [now(), scrollY];
      if (!moved) return;
      const depth = Math.min(1, Math.max(0, (scrollY + innerHeight) / document.documentElement.scrollHeight));
      pushOnPage("scroll", { depth, velocity, direction: moved > 0 ? "down" : "up" });
    });
  }

  function watchFields() {
    let entered = 0;
    on(document, "focusin", () => (entered = now()));
    on(document, "focusout", ({ target }) => {
      if (ours(target) || !target.matches(FIELDS)) return;
      const filled = /^(checkbox|radio)$/.test(target.type) ? target.checked : target.value !== "";
      pushOnPage("field", { field: name(target), duration_ms: now() - entered, filled });
    });
  }

  function watchPages() {
    const original = history.pushState;
    history.pushState = function (...given) {
      original.apply(this, given);
      setTimeout(view); // once the page is what it will be
    };
    undo.push(() => (history.pushState = original));
    let clicked = 0;
    on(document, "click", () => (clicked = now()));
    // A link to a fragment says so, too.
    on(window, "popstate", () => {
      if (route() !== place && now() - clicked > 99) pushOnPage("exit_intent", { edge: "back" }, true);
    });
    on(window, "popstate hashchange", view);
    on(document, "visibilitychange", () => document.visibilityState === "hidden" && leave());
    on(window, "pagehide", leave);
    view();
  }

  // ---- what is shown

  function listen() {
    const seen = new Set();
    const said = new Map(); // and not confirmed
    let socket = null;
    let lost = 0;
    let again = 0;
    const say = (message) => socket?.readyState === 1 && socket.send(JSON.stringify(message));
    const sayAgain = () => {
      again = 0;
      said.forEach(say);
    };
    const heard = {
      challenge: async () => {
        const token = await (config.token.call ? config.token() : config.token);
        say({ op: "authenticate", token });
      },
      hello: ({ session, user }) => {
        if (session !== config.session || user !== config.user) warn("the token is for", user, "in", session);
        lost = 0;
        sayAgain();
      },
      acknowledged: (message) => said.delete(message.intervention_id + message.outcome),
      error: (message) => {
        if (message.code === "unavailable") return (again = again || setTimeout(sayAgain, 5000));
        heard.acknowledged(message); // refused for good
        warn(message.code, message.message);
      },
      record: ({ record, receipt }) => {
        if (record.type !== "intervention" || record.status !== "fired" || seen.has(record.id)) return;
        seen.add(record.id);
        if (record.expires_ts && record.expires_ts <= now() + (offset || 0)) return;
        const acknowledge = (outcome) => {
          const message = { op: "acknowledge", intervention_id: record.id, outcome, receipt };
          said.set(record.id + outcome, message);
          say(message);
        };
        (config.onIntervention || box)(record, acknowledge);
      },
    };
    const connect = () => {
      if (!config) return;
      socket = new WebSocket(config.gateway.replace(/^http/, "ws").replace(/([^/])(\/ws)?\/?$/, "$1/ws"));
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        heard[message.op]?.(message);
      };
      socket.onclose = ({ code, reason }) => {
        if (!config) return;
        if (code > 4000) warn(reason);
        else if (!lost) missed(config.gateway);
        // Revoked, too many, or no fresh token to be had.
        if (code === 4003 || code === 4029 || (/400[12]/.test(code) && !config.token.call)) return;
        setTimeout(connect, backoff(lost++));
      };
    };
    connect();
    undo.push(() => socket.close());
  }

  // All of it text. What wants an answer takes the focus.
  function box(record, acknowledge) {
    const { headline = "", body: text = "", call_to_action: action } = record.content || {};
    const asks = /modal|chat|exit/.test(record.intervention);
    const before = document.activeElement;
    const element = document.createElement("div");
    const add = (tag, content, style, listener) => {
      const part = element.appendChild(document.createElement(tag));
      part.textContent = content;
      part.style.cssText = style || "";
      part.onclick = listener;
      return part;
    };
    const close = (outcome) => {
      acknowledge(outcome);
      element.remove();
      if (asks) before?.focus?.();
    };
    element.dataset.attuneBox = record.intervention;
    element.setAttribute("role", asks ? "dialog" : "status");
    element.setAttribute("aria-label", headline);
    element.tabIndex = -1;
    element.style.cssText =
      "position:fixed;right:1rem;bottom:1rem;z-index:2147483647;max-width:min(22rem,calc(100vw - 2rem));" +
      "box-sizing:border-box;padding:1rem;border-radius:.5rem;font:16px/1.4 system-ui,sans-serif;" +
      "color:#1a1a1a;background:#fff;border:1px solid #767676;box-shadow:0 4px 16px #0004";
    const button = "font:inherit;padding:.4rem .8rem;margin:.75rem .5rem 0 0;cursor:pointer";
    add("strong", headline, "display:block");
    add("span", text);
    add("br");
    if (action) add("button", action, button, () => close("clicked"));
    add("button", "Close", button, () => close("dismissed"));
    element.onkeydown = ({ key }) => key === "Escape" && close("dismissed");
    document.body.append(element);
    if (asks) element.focus();
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches)
      element.animate([{ transform: "translateY(1rem)" }, {}], 200); // readable at once
    acknowledge("shown");
  }

  // ---- what a page calls

  function start(given) {
    if (config || navigator.doNotTrack === "1" || navigator.globalPrivacyControl) return;
    for (const field of ["collector", "key", "session", "user"])
      if (!given[field]) throw new TypeError(`attune.start: expected ${field}`);
    const url = given.collector.replace(/\/$/, "") + "/api/telemetry/stream?key=" + encodeURIComponent(given.key);
    config = { ...given, url };
    flush();
    watchPages();
    watchClicks();
    watchPointer();
    watchScrolling();
    watchFields();
    if (given.gateway && given.token) listen();
  }

  function stop() {
    if (!config) return;
    undo.splice(0).forEach((step) => step());
    leave(true);
    config = sending = null;
  }

  window.attune = {
    start,
    stop,
    cart: (action, product_id, price) => push("cart", { action, product_id, price }),
    checkout: (step, value) => push("checkout", { step, value }, step === "fail"),
    search: (query, results) => push("search", { query: String(query).slice(0, 1000), results }),
  };
})();
