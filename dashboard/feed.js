// The connection to the gateway: who we are, what is wanted, where we stood, and patience when it is lost.

const FIRST_WAIT_S = 1;
const LONGEST_WAIT_S = 30;
const PING_EVERY_MS = 5_000;
const SILENCE_MS = 15_000;
const FIRST_PATIENCE_MS = 1_000;
const FRESH_MS = 60_000; // how long before its end a token is replaced
const NOT_LET_IN = new Map([
  [4001, "The gateway does not take this token."],
  [4002, "The token has expired."],
  [4003, "The token was revoked."],
]);

export class Feed {
  #url;
  #channels;
  #on;
  #socket = null;
  #hello = null;
  #offsets = {}; // where we stand, by channel
  #gateway = null; // the run of the gateway that the offsets are of
  #lost = 0; // connections lost since the last one that worked
  #heard = 0;
  #asked = 0; // when the ping went out that has no pong yet
  #newest = new Map(); // the newest offset, by channel and tenant
  #patience = FIRST_PATIENCE_MS;
  #asking = 0;
  #renewal = 0;
  #retrying = 0;

  /**
   * `on` holds what is called: `state(name, detail)` with connecting, live, reconnecting (detail: seconds) or locked
   * (detail: why; `connect` again with a token); `token(again)` gives one or null, `again` if the last was refused;
   * `record(record)`; `roundTrip(ms)`.
   */
  constructor(url, channels, on) {
    this.#url = url;
    this.#channels = channels;
    this.#on = on;
    setInterval(() => this.#keepAlive(), PING_EVERY_MS);
    addEventListener("online", () => this.retryNow());
  }

  connect() {
    clearTimeout(this.#retrying);
    this.#on.state("connecting");
    const socket = new WebSocket(this.#url);
    this.#socket = socket;
    this.#hello = null;
    this.#asked = 0;
    this.#heard = performance.now();
    socket.onmessage = (event) => this.#receive(socket, JSON.parse(event.data));
    socket.onclose = (event) => this.#closed(socket, event.code);
  }

  retryNow() {
    if (this.#socket === null) this.connect();
  }

  #receive(socket, message) {
    if (socket !== this.#socket) return;
    this.#heard = performance.now();
    switch (message.op) {
      case "record":
        this.#note(message);
        this.#on.record(message.record);
        break;
      case "challenge":
        this.#authenticate(socket);
        break;
      case "hello":
        this.#hello = message;
        this.#newest.clear();
        this.#patience = FIRST_PATIENCE_MS;
        this.#renewLater(message.expires_ts);
        this.#subscribe(socket, message);
        break;
      case "authenticated":
        this.#renewLater(message.expires_ts);
        break;
      case "subscribed":
        this.#gateway = this.#hello.gateway;
        Object.assign(this.#offsets, message.offsets);
        this.#lost = 0;
        this.#on.state("live");
        if (this.#asked === 0) this.#ping(socket);
        break;
      case "pong":
        this.#on.roundTrip(performance.now() - this.#asked);
        this.#asked = 0;
        break;
      case "error":
        console.warn("gateway:", message.code, message.message);
        break;
    }
  }

  /** Go on where we stood, or take what the gateway has of the past; at first also the newest of every session. */
  #subscribe(socket, { channels, role }) {
    const wanted = this.#channels.filter((channel) => channels.includes(channel));
    const again = this.#gateway !== null && role !== "developer";
    this.#ask(socket, wanted, again ? { gateway: this.#gateway, offsets: this.#offsets } : undefined);
    if (!again && wanted.includes("engagement")) {
      socket.send(JSON.stringify({ op: "subscribe", channels: ["engagement"] }));
    }
  }

  #ask(socket, channels, resume) {
    const { history } = this.#hello.limits;
    socket.send(JSON.stringify({ op: "subscribe", channels, history, resume }));
  }

  /**
   * Remember where we stand. A gap in the offsets is engagement that a newer one of its session replaced while it waited
   * for us, as in the burst of a gateway that has just started: ask for that, but not all the time if we are slow.
   */
  #note({ channel, offset, record }) {
    const place = `${channel}/${record.tenant_id}`;
    const newest = this.#newest.get(place);
    if (offset === undefined || offset <= newest) return;
    this.#newest.set(place, offset);
    this.#offsets[channel] = offset;
    if (channel !== "engagement" || newest === undefined || offset === newest + 1 || this.#asking) return;
    const socket = this.#socket;
    this.#asking = setTimeout(() => {
      this.#asking = 0;
      if (socket === this.#socket) this.#ask(socket, ["engagement"]);
    }, this.#patience);
    this.#patience *= 2;
  }

  async #authenticate(socket) {
    const token = await this.#on.token(false);
    if (socket !== this.#socket) return;
    if (token === null) this.#lock("This gateway asks for a token.");
    else socket.send(JSON.stringify({ op: "authenticate", token }));
  }

  #renewLater(expires) {
    clearTimeout(this.#renewal);
    if (!expires) return;
    const socket = this.#socket;
    const left = Math.min(expires - Date.now() - FRESH_MS, 2 ** 31 - 1);
    this.#renewal = setTimeout(() => this.#authenticate(socket), Math.max(left, FRESH_MS / 2));
  }

  #lock(why) {
    const socket = this.#socket;
    this.#socket = null;
    socket.close();
    this.#on.state("locked", why);
  }

  async #closed(socket, code) {
    if (socket !== this.#socket) return;
    this.#socket = null;
    clearTimeout(this.#renewal);
    if (NOT_LET_IN.has(code) && ((await this.#on.token(true)) === null || code === 4003)) {
      this.#on.state("locked", NOT_LET_IN.get(code));
      return;
    }
    const longest = Math.min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** this.#lost);
    this.#lost += 1;
    // Spread over half the time, or all clients of a restarted gateway come back in the same instant.
    const seconds = longest * (0.5 + Math.random() / 2);
    this.#on.state("reconnecting", seconds);
    this.#retrying = setTimeout(() => this.retryNow(), seconds * 1000);
  }

  #keepAlive() {
    const socket = this.#socket;
    if (socket === null) return;
    if (performance.now() - this.#heard > SILENCE_MS) {
      socket.close();
      this.#closed(socket, 1006); // a dead network may keep onclose waiting
    } else if (socket.readyState === WebSocket.OPEN && this.#hello !== null && this.#asked === 0) {
      this.#ping(socket);
    }
  }

  #ping(socket) {
    this.#asked = performance.now();
    socket.send(JSON.stringify({ op: "ping" }));
  }
}
