// The connection to the gateway: one socket, what is wanted of it, and patience when it is lost.

const FIRST_WAIT_S = 1;
const LONGEST_WAIT_S = 30;
const PING_EVERY_MS = 15_000;
const SILENCE_MS = 40_000;

export class Feed {
  #url;
  #channels;
  #onState;
  #onMessage;
  #socket = null;
  #lost = 0; // connections lost since the last one that worked
  #heard = 0;

  /** `onState(state, seconds)`: connecting, live or reconnecting; `onMessage(message)`: everything else that is said. */
  constructor(url, channels, { onState, onMessage }) {
    this.#url = url;
    this.#channels = channels;
    this.#onState = onState;
    this.#onMessage = onMessage;
    setInterval(() => this.#keepAlive(), PING_EVERY_MS);
    addEventListener("online", () => this.#retryNow());
  }

  connect() {
    this.#onState("connecting", 0);
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#heard = performance.now();
    socket.onmessage = (event) => this.#receive(socket, event.data);
    socket.onclose = () => this.#retry(socket);
  }

  #receive(socket, text) {
    this.#heard = performance.now();
    const message = JSON.parse(text);
    if (message.op === "challenge") {
      this.#authenticate(socket);
    } else if (message.op === "hello") {
      socket.send(JSON.stringify({ op: "subscribe", channels: this.#channels }));
    } else if (message.op === "subscribed") {
      this.#lost = 0;
      this.#onState("live", 0);
    }
    this.#onMessage(message);
  }

  /** Say who we are; without a token the gateway will close the connection, and we come back later. */
  async #authenticate(socket) {
    const wanted = new URL("/demo/token", location.href);
    const tenant = new URLSearchParams(location.search).get("tenant");
    if (tenant) wanted.searchParams.set("tenant", tenant);
    const response = await fetch(wanted).catch(() => null);
    if (response?.ok && socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ op: "authenticate", token: await response.text() }));
    }
  }

  #retry(socket) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    const longest = Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** this.#lost);
    this.#lost += 1;
    // Spread over half the time, or all clients of a restarted gateway come back in the same instant.
    const seconds = longest * (0.5 + Math.random() / 2);
    this.#onState("reconnecting", seconds);
    setTimeout(() => this.#socket ?? this.connect(), seconds * 1000);
  }

  #retryNow() {
    if (this.#socket === null) this.connect();
  }

  #keepAlive() {
    const socket = this.#socket;
    if (socket === null) return;
    if (performance.now() - this.#heard > SILENCE_MS) {
      socket.close();
      this.#retry(socket); // a dead network may keep onclose waiting
    } else if (socket.readyState === WebSocket.OPEN) {
      socket.send(JSON.stringify({ op: "ping" }));
    }
  }
}
