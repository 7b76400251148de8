/* The inspector's page: records come in, exchanges are listed, the chosen one is drawn as a sequence diagram.

   It owns nothing but what it shows. Records come from a WebSocket of the server that the page is from, or
   stand in the page itself, which is then a recording. Whatever is in them was said by strangers: it becomes
   text, never HTML. In reading order: records, words, the list, the diagram, content, states, the source, keys. */
"use strict";

const $ = (id) => document.getElementById(id);

/** An element with a class and text, or children. */
function make(tag, name, ...content) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.append(...content.filter((each) => each !== null));
  return element;
}

/* ---- records, and the exchanges that they are of ------------------------------------------------------------ */

const MOST = 20000; // exchanges that are kept, and records of each

class Exchange {
  constructor(key, record) {
    this.key = key; // e1: an exchange; c1: a connection on which nothing was asked yet; life: lifespan
    this.number = record.exchange ?? 0;
    this.connection = record.connection;
    this.records = [];
    this.dropped = 0; // how many of its first records are not kept any more
    this.began = record.at;
    this.ended = record.at;
    this.kind = key === "life" ? "lifespan" : this.number ? "http" : "connection";
    this.method = key === "life" ? "LIFE" : this.number ? "…" : "TCP";
    this.path = key === "life" ? "lifespan" : this.number ? "…" : `connection ${record.connection}`;
    this.status = null;
    this.code = null; // of a WebSocket that is closed
    this.error = "";
    this.left = this.whole = this.over = false;
    this.closed = false; // by us
    this.came = this.went = 0;
  }

  add(record) {
    this.records.push(record);
    if (this.records.length > MOST) {
      this.records.splice(0, MOST / 10);
      this.dropped += MOST / 10;
    }
    const isTransports = record.lane === "bytes" && !CARRIES.has(record.name);
    if (!isTransports || !this.over) this.ended = record.at; // the connection may be kept alive long after it
    const content = record.content ?? {};
    switch (`${record.lane} ${record.way ?? ""} ${record.name}`) {
      case "events in Request":
        this.method = plain(content.method);
        this.path = plain(content.target);
        break;
      case "events out refused":
        if (this.status !== null) break; // too late to be told: the response was begun
        this.whole = true; // falls through
      case "events out Response":
        this.status = content.status_code;
        break;
      case "events out EndOfMessage":
        this.whole = true;
        break;
      case "events out CloseConnection":
      case "events in CloseConnection":
        this.code ??= content.code;
        break;
      case "app in called":
        this.kind = content.type ?? this.kind;
        if (this.kind === "websocket") this.method = "WS";
        break;
      case "app out raised":
        this.over = true;
        this.error = content.error;
        break;
      case "app out returned":
        this.over = true;
        break;
      case "bytes in data_received":
        this.came += size(content);
        if (this.path === "…") this.readLine(plain(content).split("\r\n", 1)[0].slice(0, 200));
        break;
      case "bytes out write":
        this.went += size(content);
        break;
      case "bytes out close":
      case "bytes out abort":
        this.closed = true;
        break;
      case "bytes in connection_lost":
        if (!this.whole && !this.closed && this.code === null && this.number) this.left = true;
        if (!this.number) this.over = true;
        break;
    }
  }

  /** The request line as it came: h11 may never say what it is. */
  readLine(text) {
    const parts = /^([A-Z]+) (\S+) HTTP\/\d/.exec(text);
    [this.method, this.path] = parts ? parts.slice(1) : ["…", text];
  }

  /** [words, class] of how it ended, or stands. */
  get outcome() {
    if (this.kind === "connection") return [this.over ? "closed" : "silent", ""];
    if (this.kind === "lifespan") return this.error && !this.over ? ["failed", "wrong"] : [this.over ? "over" : "running", ""];
    if (this.kind === "websocket" && this.status === null) {
      return this.code !== null ? [String(this.code), this.code === 1000 || this.code === 1001 ? "good" : "moved"]
        : this.left ? ["left", "moved"] : ["open", "open"];
    }
    if (this.left) return ["left", "moved"];
    if (this.error && this.status < 500) return ["raised", "wrong"];
    if (this.status === null) return ["running", "open"];
    return [String(this.status), this.status < 300 ? "good" : this.status < 500 ? "moved" : "wrong"];
  }

  get running() {
    return this.number > 0 && !this.over && !this.left && !(this.whole && this.kind === "http" && this.error);
  }

  get words() {
    return `${this.method} ${this.path} ${this.outcome[0]} ${this.error}`.toLowerCase();
  }
}

const CARRIES = new Set(["data_received", "write"]); // the records of the transport that have bytes

const trace = {
  head: null,
  exchanges: [], // in the order of their beginning
  byKey: new Map(),
  peers: new Map(), // connection → address
  dropped: 0,

  clear() {
    this.exchanges.length = 0;
    this.byKey.clear();
    this.dropped = 0;
  },

  add(record) {
    if (record.name === "connection_made") this.peers.set(record.connection, address(record.content?.peername));
    const key = record.exchange ? `e${record.exchange}` : record.connection ? `c${record.connection}` : "life";
    let exchange = this.byKey.get(key);
    if (!exchange) {
      if (record.exchange) this.forgetConnection(record.connection);
      exchange = new Exchange(key, record);
      this.byKey.set(key, exchange);
      this.exchanges.push(exchange);
      if (this.exchanges.length > MOST) {
        for (const old of this.exchanges.splice(0, MOST / 10)) this.byKey.delete(old.key);
        this.dropped += MOST / 10;
      }
    }
    exchange.add(record);
    return exchange;
  },

  /** A connection has a row of its own until something is asked on it. */
  forgetConnection(number) {
    const connection = this.byKey.get(`c${number}`);
    if (!connection) return;
    this.byKey.delete(connection.key);
    const at = this.exchanges.lastIndexOf(connection);
    if (at >= 0) this.exchanges.splice(at, 1);
  },
};

/* ---- what was said, in words -------------------------------------------------------------------------------- */

/** A piece of content as text: of bytes, each byte as the character of its number. */
function plain(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "object") return value.bytes ?? value.text ?? value.repr ?? JSON.stringify(value);
  return String(value);
}

function size(value) {
  return value?.size ?? plain(value).length;
}

function counted(number, thing) {
  return `${number.toLocaleString("en")} ${thing}${number === 1 ? "" : "s"}`;
}

function address(peer) {
  return Array.isArray(peer) ? `${peer[0]}:${peer[1]}` : "a unix socket";
}

function milliseconds(us) {
  if (us >= 10e6) return `${(us / 1e6).toFixed(1)} s`;
  return `${(us / 1000).toFixed(us < 10000 ? 2 : 1)} ms`;
}

const CONTROLS = { __proto__: null, "\r": "\\r", "\n": "\\n", "\t": "\\t" };

/** On one line, with what cannot be seen made visible. */
function visible(text, most = 160) {
  const seen = text.slice(0, most).replace(/[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, (each) => CONTROLS[each] ?? "·");
  return text.length > most ? `${seen}…` : seen;
}

function amount(value) {
  const isBytes = typeof value === "object" && value !== null && "bytes" in value;
  const count = size(value);
  const start = plain(value).slice(0, 200);
  return counted(count, isBytes ? "byte" : "character") + (count ? `  ${visible(isBytes ? decoded(start, count > start.length) : start)}` : "");
}

const TRANSPORT = {
  __proto__: null,
  eof_received: "ends its side",
  connection_lost: "connection over",
  write_eof: "we end our side",
  close: "close",
  abort: "break off",
  pause_reading: "the application has enough: the client waits",
  resume_reading: "read on",
  pause_writing: "the client takes too little: the application waits",
  resume_writing: "the client takes more",
};

/** [the name, the rest] of a record in words. */
function said(record) {
  const { name, lane } = record;
  const content = Object(record.content); // what is no object has no words
  if (lane === "bytes") {
    if (name === "connection_made") return ["connects", address(content.peername)];
    if ("bytes" in content) return [counted(size(content), "byte"), visible(decoded(content.bytes.slice(0, 200), content.bytes.length > 200))];
    return [TRANSPORT[name] ?? name, ""];
  }
  if (lane === "events") return saidEvent(name, content);
  if (lane === "asgi") return [name, saidMessage(content)];
  if (name === "called") return ["called", `${content.type} ${content.method ?? ""} ${content.path ?? ""}`];
  if (name === "raised") return ["raised", content.error];
  return [name, record.app ? line(record.app) : ""];
}

function saidEvent(name, content) {
  switch (name) {
    case "Request": return [name, `${plain(content.method)} ${plain(content.target)}`];
    case "Response":
    case "InformationalResponse": return [name, String(content.status_code)];
    case "refused": return ["refused", `${content.status_code} ${content.rule}`];
    case "Data":
    case "TextMessage":
    case "BytesMessage": return [name, amount(content.data)];
    case "CloseConnection": return [name, `${content.code} ${content.reason ?? ""}`];
  }
  return [name, content.error ?? ""];
}

function saidMessage(content) {
  if ("error" in content) return content.error;
  if ("status" in content) return String(plain(content.status));
  if ("body" in content || "more_body" in content) {
    return `${amount(content.body ?? { bytes: "" })}${content.more_body ? "  …more" : ""}`;
  }
  if (content.text !== undefined && content.text !== null) return amount(content.text);
  if (content.bytes !== undefined && content.bytes !== null) return amount(content.bytes);
  return Object.entries(content).filter(([key, value]) => key !== "type" && value !== null && value !== "" && !Array.isArray(value))
    .map(([key, value]) => `${key} ${plain(value)}`).join(", ");
}

/* What a record means, for who learns the protocols by looking at them. */
const MEANING = {
  __proto__: null,
  connection_made: "A client has connected; asyncio has made a transport for its socket.",
  data_received: "The transport has read these bytes from the socket, and hands them on as they came, cut anywhere.",
  write: "These bytes are given to the transport, which sends them as fast as the client takes them.",
  eof_received: "The client sends nothing any more. It may still wait for an answer.",
  connection_lost: "The socket is closed; nothing passes any more.",
  write_eof: "The server sends nothing any more, and waits for the client to close.",
  close: "The server closes once all that was written is sent.",
  abort: "The server closes at once; what is not sent is lost.",
  pause_writing: "Backpressure: the client takes less than is written, so that send() waits.",
  resume_writing: "What was written has gone out, so that send() returns.",
  pause_reading: "Backpressure: the application takes less than comes, so that nothing is read, and TCP lets the client wait.",
  resume_reading: "The application has taken what came, and the server reads on.",
  Request: "h11 has read a request line and header fields whole. The body is still to come.",
  Data: "A piece of a body, as h11 sees it: without the framing, which is Content-Length or chunks.",
  EndOfMessage: "The body is complete; of a message without a body, its head was all.",
  Response: "h11 makes a status line and header fields of this.",
  InformationalResponse: "An answer before the answer: 100 asks for the body, 101 makes the connection a WebSocket's.",
  TextMessage: "A text message of the WebSocket, or a part of one: wsproto has unmasked and decompressed it.",
  BytesMessage: "A binary message of the WebSocket, or a part of one.",
  Ping: "A frame that asks whether the other side is there. It is answered with a Pong.",
  Pong: "The answer to a Ping.",
  CloseConnection: "A close frame. The one who gets it first answers with another, and then the connection is closed (RFC 6455 section 7).",
  refused: "The server answers by itself.",
  called: "The application is called with a scope, receive and send: once for each request, WebSocket or lifespan.",
  returned: "The call of the application is over.",
  raised: "The application has raised. If no response was begun, the server answers with 500.",
  "waits in receive()": "The application awaits receive(), and there is nothing yet that it could be given.",
  "waits in send()": "The application awaits send(), which returns when there is room for more.",
  "send() returned": "There is room again, and the application goes on.",
  "send() raised": "There is nobody left to send to.",
  "http.request": "receive() returns a piece of the request's body; with more_body there will be another.",
  "http.disconnect": "receive() says that the client has left, or that the response is complete.",
  "http.response.start": "send() is given status and headers. They go out with the first piece of the body.",
  "http.response.body": "send() is given a piece of the response's body; without more_body it is the last.",
  "websocket.connect": "receive() says that a client asks for a WebSocket. The application accepts, or closes.",
  "websocket.accept": "The application agrees: the server answers with 101.",
  "websocket.receive": "receive() returns a whole message of the client.",
  "websocket.send": "send() is given a message for the client.",
  "websocket.close": "The application closes; before it has accepted, that is a 403.",
  "websocket.disconnect": "receive() says that the WebSocket is closed, and with which code.",
  "lifespan.startup": "The server is about to start: the application may open what it needs.",
  "lifespan.startup.complete": "The application is ready: the server accepts connections.",
  "lifespan.startup.failed": "The application cannot start, and the server does not either.",
  "lifespan.shutdown": "All connections are closed: the application may close what it has opened.",
  "lifespan.shutdown.complete": "The application is done: the server ends.",
};

/** The source of the application's line: what stands behind its place. */
function line(app) {
  return app.slice(app.indexOf(": ") + 1).trim() || app;
}

/* ---- rows of which only those in sight are in the document --------------------------------------------------- */

class Rows {
  constructor(scroller, height, draw) {
    this.scroller = scroller; // a listbox: the chosen row is its active descendant
    this.height = height;
    this.draw = draw; // (item, index) → an element
    this.items = [];
    this.held = false; // a finger is on a row: were the row replaced, it would not be clicked
    this.stage = make("div", "stage");
    this.stage.style.position = "relative";
    scroller.append(this.stage);
    scroller.addEventListener("scroll", () => soon(this), { passive: true });
    new ResizeObserver(() => soon(this)).observe(scroller);
    this.stage.addEventListener("pointerdown", () => { this.held = true; });
    for (const end of ["pointerup", "pointercancel"]) {
      addEventListener(end, () => { this.held = false; soon(this); });
    }
  }

  show(items) {
    this.items = items;
    soon(this);
  }

  render() {
    if (this.held) return;
    const { scrollTop, clientHeight } = this.scroller;
    this.stage.style.height = `${this.items.length * this.height}px`;
    const first = Math.max(0, Math.floor(scrollTop / this.height) - 4);
    const last = Math.min(this.items.length, Math.ceil((scrollTop + clientHeight) / this.height) + 4);
    const elements = [];
    for (let index = first; index < last; index++) {
      const element = this.draw(this.items[index], index);
      element.style.top = `${index * this.height}px`;
      element.id = `${this.scroller.id}-${index}`;
      element.setAttribute("aria-posinset", index + 1);
      element.setAttribute("aria-setsize", this.items.length);
      elements.push(element);
    }
    this.stage.replaceChildren(...elements);
    const active = elements.find((each) => each.getAttribute("aria-selected") === "true");
    this.scroller.setAttribute("aria-activedescendant", active?.id ?? "");
  }

  get atEnd() {
    const { scrollTop, clientHeight, scrollHeight } = this.scroller;
    return scrollTop + clientHeight >= scrollHeight - this.height;
  }

  reveal(index) {
    if (this.held) return;
    const { scrollTop, clientHeight } = this.scroller;
    const top = index * this.height;
    this.stage.style.height = `${this.items.length * this.height}px`;
    if (top < scrollTop) this.scroller.scrollTop = top;
    else if (top + this.height > scrollTop + clientHeight) this.scroller.scrollTop = top + this.height - clientHeight;
    soon(this);
  }
}

/* Whatever changed is drawn once before the next frame. */
const due = new Set();

function soon(what) {
  if (due.size === 0) requestAnimationFrame(() => {
    const now = [...due];
    due.clear();
    for (const each of now) each.render();
  });
  due.add(what);
}

/* ---- the list ----------------------------------------------------------------------------------------------- */

const list = {
  rows: null,
  chosen: null,
  follows: true, // the newest is kept in sight

  render() {
    const wanted = filter();
    const shown = wanted ? trace.exchanges.filter(wanted) : trace.exchanges;
    const count = wanted ? `${shown.length.toLocaleString("en")} of ${trace.exchanges.length.toLocaleString("en")}`
      : trace.exchanges.length.toLocaleString("en");
    $("count").textContent = trace.dropped ? `${count}, ${trace.dropped.toLocaleString("en")} older dropped` : count;
    $("empty").hidden = !wanted || shown.length > 0;
    $("unchosen").textContent = trace.exchanges.some((each) => each.number) ? CHOOSE
      : `${trace.head?.app ? `${trace.head.app} is served. ` : ""}Waiting for the first request: ask it something, and what passes appears here as it happens.`;
    this.rows.show(shown);
    if (this.follows && !this.chosen) this.rows.reveal(shown.length - 1);
  },

  choose(exchange, open = true) {
    this.chosen = exchange;
    diagram.show(exchange);
    const at = this.rows.items.indexOf(exchange);
    if (at >= 0) this.rows.reveal(at);
    if (open) $("exchange").classList.add("opened");
    soon(this.rows);
  },

  move(step) {
    const { items } = this.rows;
    const at = items.indexOf(this.chosen);
    const next = items[Math.min(Math.max(at < 0 ? items.length - 1 : at + step, 0), items.length - 1)];
    if (next) this.choose(next, false);
  },
};

const CHOOSE = "Choose an exchange to see what passes between its client and the application.";

const ABOUT = { __proto__: null, lifespan: "the application's startup and shutdown", connection: "nothing was asked yet" };

function drawItem(exchange, index) {
  const [words, name] = exchange.outcome;
  const about = exchange.error || ABOUT[exchange.kind] || `#${exchange.number} · connection ${exchange.connection}`
    + (exchange.came || exchange.went ? ` · ↑ ${exchange.came.toLocaleString("en")} ↓ ${exchange.went.toLocaleString("en")}` : "");
  const item = make("div", exchange.number ? "item" : "item quiet",
    make("span", "method", exchange.method), make("span", "path", visible(exchange.path, 400)),
    make("span", `status ${name}`, words), make("span", "about", about),
    make("span", "time", exchange.kind === "connection" ? "" : milliseconds(exchange.ended - exchange.began)));
  item.setAttribute("role", "option");
  item.setAttribute("aria-selected", String(exchange === list.chosen));
  item.dataset.exchange = exchange.number || exchange.key;
  item.dataset.index = index;
  return item;
}

const KINDS = {
  __proto__: null,
  ws: (each) => each.kind === "websocket",
  running: (each) => each.running,
  error: (each) => Boolean(each.error) || each.status >= 500,
  left: (each) => each.left,
};
const FIELDS = {
  __proto__: null,
  status: (each, value) => each.outcome[0].startsWith(value),
  method: (each, value) => each.method.toLowerCase() === value,
  conn: (each, value) => String(each.connection) === value,
};

/** What the filter wants, as a predicate; null where it is empty. */
function filter() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const wants = words.map((word) => {
    const [field, value] = word.split(":", 2);
    if (value !== undefined && FIELDS[field]) return (each) => FIELDS[field](each, value);
    return KINDS[word] ?? ((each) => each.words.includes(word));
  });
  return (each) => wants.every((want) => want(each));
}

/* ---- the diagram -------------------------------------------------------------------------------------------- */

const LANES = ["client", "bytes", "h11", "ASGI", "application"];
const AT = [9, 29.5, 50, 70.5, 91]; // per cent of the width
const SPAN = { bytes: [0, 1], events: [1, 2], asgi: [3, 4], app: [2, 4] };
const GAP = 3000; // µs without a record that are shown as a gap

const diagram = {
  rows: null,
  exchange: null,
  items: [], // {record, index, waits, held} or {gap, waits, held}
  taken: 0, // how many records are in the items
  dropped: 0, // how many are not there any more
  held: new Set(), // the directions in which the transport is paused: backpressure
  waiting: new Set(), // the calls in which the application waits
  chosen: -1, // the index of a record

  show(exchange) {
    this.exchange = exchange;
    this.begin();
    this.rows.scroller.scrollTop = 0;
    $("side").classList.remove("opened");
    details.show(null);
    this.render();
  },

  begin() {
    this.items = [];
    this.taken = 0;
    this.dropped = this.exchange?.dropped ?? 0;
    this.waiting = new Set();
    this.held = new Set();
    this.chosen = -1;
  },

  render() {
    $("unchosen").hidden = Boolean(this.exchange);
    $("title").hidden = $("export-one").hidden = !this.exchange;
    if (!this.exchange) return this.rows.show([]);
    const follows = this.rows.atEnd && this.taken > 0;
    const { records, dropped } = this.exchange;
    if (dropped !== this.dropped) this.begin();
    for (; this.taken < records.length; this.taken++) this.take(records[this.taken], records[this.taken - 1]);
    this.rows.show(this.items);
    if (follows && this.chosen < 0) this.rows.reveal(this.items.length - 1);
    this.renderTitle();
    states.show(records, this.chosen < 0 ? records.length - 1 : this.chosen);
  },

  take(record, before) {
    const passed = before ? record.at - before.at : 0;
    if (passed > GAP) this.items.push({ gap: passed, ...this.bars });
    const call = /^waits in (\w+)\(\)$/.exec(record.name);
    if (call) this.waiting.add(call[1]);
    else if (record.lane === "asgi" && record.way === "in") this.waiting.delete(record.name.startsWith("send()") ? "send" : "receive");
    else if (record.name === "send() returned") this.waiting.delete("send");
    else if (record.lane === "app" && record.way === "out") this.waiting.clear();
    const flow = /^(pause|resume)_(\w+)$/.exec(record.name);
    if (flow) this.held[flow[1] === "pause" ? "add" : "delete"](flow[2]);
    this.items.push({ record, index: this.taken, ...this.bars });
  },

  get bars() {
    return { waits: this.waiting.size > 0, held: this.held.size > 0 };
  },

  renderTitle() {
    const { exchange } = this;
    const [words, name] = exchange.outcome;
    const peer = trace.peers.get(exchange.connection);
    $("title").replaceChildren(
      make("strong", "", `${exchange.method} ${visible(exchange.path, 400)}`),
      make("span", "", make("b", `status ${name}`, words), ` · ${milliseconds(exchange.ended - exchange.began)}`,
        exchange.number ? ` · #${exchange.number}, connection ${exchange.connection}` : "", peer ? ` from ${peer}` : ""));
    const href = new URL(`export.html${location.search}`, location.href);
    href.searchParams.set("exchange", exchange.number);
    $("export-one").href = href;
    $("export-one").hidden = !live || !exchange.number;
  },

  choose(index) {
    this.chosen = Math.min(Math.max(index, 0), this.exchange.records.length - 1);
    details.show(this.exchange.records[this.chosen]);
    $("side").classList.add("opened"); // which may take room of the diagram
    this.rows.reveal(this.items.findIndex((each) => each.index === this.chosen));
    soon(this);
  },
};

function standing(name, lane) {
  const bar = make("i", name);
  bar.style.left = `${AT[lane]}%`;
  return bar;
}

function stems({ waits, held }) {
  const found = AT.map((_, lane) => standing("stem", lane));
  if (waits) found.push(standing("wait", 4));
  if (held) found.push(standing("held", 1));
  return found;
}

function drawRow(item) {
  const { record } = item;
  if (!record) {
    const label = make("span", "label", `${milliseconds(item.gap)} later`);
    const row = make("div", "row gap", make("div", "", ...stems(item), label));
    row.setAttribute("role", "presentation");
    return row;
  }
  const wrong = /raised|Error$|^refused$|^abort$/.test(record.name);
  const row = make("div", wrong ? "row wrong" : "row", make("time", "", ((record.at - diagram.exchange.began) / 1000).toFixed(2)),
    make("div", record.lane, ...stems(item), ...arrow(record)));
  row.setAttribute("role", "option");
  row.setAttribute("aria-selected", String(item.index === diagram.chosen));
  row.dataset.record = item.index;
  return row;
}

/** The arrow of a record, or a dot where nothing travels; and its label, from the arrow towards the middle. */
function arrow(record) {
  const [near, far] = SPAN[record.lane];
  const [name, rest] = said(record);
  const took = record.took > 1000 ? `  after ${milliseconds(record.took)}` : "";
  const label = make("span", "label", name, make("small", "", rest || took ? `  ${rest}${took}` : ""));
  const shape = record.way ? make("i", `arrow ${record.way}`) : make("i", "dot");
  const at = record.way ? near : record.lane === "bytes" ? 1 : 4;
  shape.style.left = `${AT[at]}%`;
  if (record.way) shape.style.width = `${AT[far] - AT[near]}%`;
  if (near < 2) label.style.left = `${AT[at]}%`;
  else label.style.right = `${100 - AT[record.way ? far : 4]}%`;
  label.style.maxWidth = near < 2 ? `calc(${AT[4] - AT[at]}% - 8px)` : `${AT[far] - AT[1]}%`; // nothing hides where the application waits
  return [shape, label];
}

function drawLanes(protocol) {
  $("lanes").replaceChildren(make("div", "", ...LANES.map((name, lane) => {
    const label = make("span", "", lane === 2 ? protocol : name);
    label.style.left = `${AT[lane]}%`;
    return label;
  })));
}

/* ---- the content of a record -------------------------------------------------------------------------------- */

const details = {
  show(record) {
    $("details").replaceChildren(...(record ? this.parts(record) : diagram.exchange ? [make("p", "", "An arrow opens to what it carries.")] : []));
    $("details").scrollTop = 0;
  },

  parts(record) {
    const [name] = said(record);
    const parts = [make("h2", record.lane, name === record.name ? name : `${name} (${record.name})`),
      make("p", "", `${milliseconds(record.at - diagram.exchange.began)} after the beginning`
        + (record.took ? `; the application had waited for ${milliseconds(record.took)}` : ""))];
    if (MEANING[record.name]) parts.push(make("p", "meaning", MEANING[record.name]));
    const { content } = record;
    if (content && typeof content === "object" && "bytes" in content && record.lane === "bytes") parts.push(...bytes(content));
    else if (content !== undefined && content !== null) parts.push(make("h3", "", "Content"), tree(content));
    if (record.lane === "events" && content?.data) parts.push(...bytes(content.data));
    for (const key of ["body", "bytes"]) {
      if (record.lane === "asgi" && plain(content?.[key])) parts.push(...bytes(content[key]));
    }
    if (record.app) parts.push(make("h3", "", record.lane === "asgi" ? "The application's line" : "Where the application waits"), pre(record.app));
    if (record.states) parts.push(make("h3", "", "States after it"), make("p", "", Object.entries(record.states).map((each) => each.join(" ")).join(", ")));
    return parts;
  },
};

function pre(text, name = "text") {
  return make("pre", name, text);
}

/** Bytes as the text that they are in UTF-8, perhaps cut within a character; else each as the character of its number. */
function decoded(text, isCut) {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(text, (each) => each.charCodeAt(0)), { stream: isCut });
  } catch {
    return text;
  }
}

/** Bytes, or a text, as what they are: hex and characters, and lines. */
function bytes(value) {
  const isText = typeof value === "string" || !("bytes" in value);
  const text = plain(value);
  const parts = [make("h3", "", "Text"), pre((isText ? text : decoded(text, Boolean(value.size))).replace(/\r/g, "\\r").replace(/\n/g, "\\n\n").replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "·"))];
  if (!isText) parts.push(make("h3", "", "Bytes"), pre(dump(text), ""));
  if (value.size) parts.push(make("p", "", `Cut: the first ${text.length.toLocaleString("en")} of ${value.size.toLocaleString("en")}.`));
  return parts;
}

function dump(text) {
  const lines = [];
  for (let at = 0; at < text.length; at += 16) {
    const part = text.slice(at, at + 16);
    const hex = Array.from(part, (each) => each.charCodeAt(0).toString(16).padStart(2, "0"));
    const left = hex.slice(0, 8).join(" ").padEnd(23), right = hex.slice(8).join(" ").padEnd(23);
    lines.push(`${at.toString(16).padStart(4, "0")}  ${left}  ${right}  ${part.replace(/[^\x20-\x7e]/g, "·")}`);
  }
  return lines.join("\n");
}

/** Content as Python would write it, what has parts to be opened and closed. */
function tree(value) {
  return make("div", "tree", branch("", value, 0));
}

function branch(key, value, depth) {
  const name = key === "" ? "" : make("span", "key", `${key}: `);
  const isLeaf = value === null || typeof value !== "object" || "bytes" in value || "repr" in value
    || ("text" in value && "size" in value) || isPair(value);
  if (isLeaf) return make("div", "leaf", name, make("span", kindOf(value), literal(value)));
  const entries = Object.entries(value);
  const isList = Array.isArray(value);
  const summary = make("summary", "", name, make("span", "other", entries.length ? `${isList ? "[" : "{"} ${entries.length} ${isList ? "]" : "}"}` : isList ? "[]" : "{}"));
  const node = make("details", "", summary, ...entries.map(([each, inner]) => branch(isList ? "" : each, inner, depth + 1)));
  node.open = depth < 1 || (entries.length <= 12 && depth < 3);
  return node;
}

function isPair(value) {
  return Array.isArray(value) && value.length === 2 && value.every((each) => each === null || typeof each !== "object" || "bytes" in each);
}

function kindOf(value) {
  if (value === null || typeof value === "number" || typeof value === "boolean") return "other";
  return typeof value === "object" && "bytes" in value ? "bytes" : "text";
}

function literal(value) {
  if (value === null) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (Array.isArray(value)) return `(${value.map(literal).join(", ")})`;
  if (typeof value === "object" && "repr" in value) return value.repr;
  if (typeof value === "number" || value === "(masked)") return String(value);
  const isBytes = typeof value === "object" && "bytes" in value;
  const quoted = plain(value).replace(/[\\']/g, "\\$&").replace(/\r/g, "\\r").replace(/\n/g, "\\n").replace(/\t/g, "\\t")
    .replace(isBytes ? /[^\x20-\x7e]/g : /[\x00-\x1f\x7f-\x9f]/g, (each) => `\\x${each.charCodeAt(0).toString(16).padStart(2, "0")}`);
  const more = value.size ? `… ${value.size.toLocaleString("en")} in all` : "";
  return `${isBytes ? "b" : ""}'${quoted.slice(0, 400)}${quoted.length > 400 ? "…" : ""}'${more}`;
}

/* ---- the state machines ------------------------------------------------------------------------------------- */

/* Of h11, as its documentation draws them, and of wsproto: states with their place, and the ways between. */
const MACHINES = {
  client: {
    title: "The client, as h11 sees it",
    nodes: { IDLE: [0, 0], SEND_BODY: [1, 0], DONE: [2, 0], ERROR: [0, 1], MIGHT_SWITCH_PROTOCOL: [1, 1], MUST_CLOSE: [2, 1],
      SWITCHED_PROTOCOL: [1, 2], CLOSED: [2, 2] },
    ways: ["IDLE SEND_BODY", "SEND_BODY DONE", "DONE MUST_CLOSE", "MUST_CLOSE CLOSED", "SEND_BODY MIGHT_SWITCH_PROTOCOL",
      "MIGHT_SWITCH_PROTOCOL SWITCHED_PROTOCOL", "DONE IDLE"],
  },
  server: {
    title: "The server, as h11 sees us",
    nodes: { IDLE: [0, 0], SEND_RESPONSE: [1, 0], SEND_BODY: [2, 0], ERROR: [0, 1], SWITCHED_PROTOCOL: [1, 1], DONE: [2, 1],
      CLOSED: [1, 2], MUST_CLOSE: [2, 2] },
    ways: ["IDLE SEND_RESPONSE", "SEND_RESPONSE SEND_BODY", "SEND_BODY DONE", "DONE MUST_CLOSE", "MUST_CLOSE CLOSED",
      "SEND_RESPONSE SWITCHED_PROTOCOL", "DONE IDLE"],
  },
  websocket: {
    title: "The WebSocket, as wsproto sees it",
    nodes: { CONNECTING: [0, 0], OPEN: [1, 0], REMOTE_CLOSING: [2, 0], REJECTING: [0, 1], LOCAL_CLOSING: [1, 1], CLOSED: [2, 1] },
    ways: ["CONNECTING OPEN", "CONNECTING REJECTING", "OPEN REMOTE_CLOSING", "OPEN LOCAL_CLOSING", "REMOTE_CLOSING CLOSED", "LOCAL_CLOSING CLOSED"],
  },
};
const BOX = { width: 100, height: 26, right: 120, down: 40 };

const states = {
  shown: "",

  /** The states after the record of that index, and which they had before. */
  show(records, last) {
    const passed = { client: [], server: [], websocket: [] };
    for (const { states: after } of records.slice(0, last + 1)) {
      for (const [machine, state] of Object.entries(after ?? {})) {
        if (passed[machine]?.at(-1) !== state) passed[machine]?.push(state);
      }
    }
    for (const machine of Object.keys(passed)) {
      if (passed[machine].length) passed[machine].unshift(Object.keys(MACHINES[machine].nodes)[0]); // of which no record tells
    }
    for (const machine of ["client", "server"]) passed[machine] = withDone(passed[machine], MACHINES[machine].ways);
    const machines = passed.websocket.length ? ["websocket"] : passed.client.length ? ["client", "server"] : [];
    drawLanes(passed.websocket.length ? "wsproto" : "h11");
    const shown = JSON.stringify([machines, passed]);
    if (shown === this.shown) return;
    this.shown = shown;
    $("states").replaceChildren(...machines.map((machine) => figure(machine, passed[machine])));
  },
};

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** With DONE between two states that h11 has passed through it at once: from SEND_BODY to MUST_CLOSE. */
function withDone(passed, ways) {
  return passed.flatMap((state, index) => {
    const next = passed[index + 1];
    const isShort = !ways.includes(`${state} ${next}`) && ways.includes(`${state} DONE`) && ways.includes(`DONE ${next}`);
    return isShort ? [state, "DONE"] : [state];
  });
}

function figure(name, passed) {
  const { title, nodes, ways } = MACHINES[name];
  const places = Object.values(nodes);
  const width = Math.max(...places.map(([column]) => column)) * BOX.right + BOX.width + 4;
  const height = Math.max(...places.map(([, row]) => row)) * BOX.down + BOX.height + 18;
  const tip = svg("marker", { id: `tip-${name}`, viewBox: "0 0 6 6", refX: 5, refY: 3, markerWidth: 6, markerHeight: 6, orient: "auto" },
    svg("path", { d: "M0 0L6 3L0 6z" }));
  const taken = new Set(passed.slice(1).map((state, index) => `${passed[index]} ${state}`));
  const lines = ways.map((way) => svg("path", { class: taken.has(way) ? "passed" : "", d: curve(...way.split(" ").map((each) => nodes[each])), "marker-end": `url(#tip-${name})` }));
  const boxes = Object.entries(nodes).map(([state, [column, row]]) => {
    const kind = passed.at(-1) === state ? "lit" : passed.includes(state) ? "passed" : "";
    const x = column * BOX.right + 2, y = row * BOX.down + 14;
    return svg("g", { class: kind, "data-state": state }, svg("rect", { x, y, width: BOX.width, height: BOX.height }), words(state, x, y));
  });
  const caption = make("figcaption", "", `${title}: ${passed.at(-1)}`);
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": caption.textContent }, svg("defs", {}, tip), ...lines, ...boxes);
  picture.style.maxWidth = `${width * 1.05}px`;
  return make("figure", "", caption, picture);
}

/** A state's name in the middle of its box, on two lines where it is long. */
function words(state, x, y) {
  const parts = state.length > 16 ? [state.slice(0, state.lastIndexOf("_") + 1), state.slice(state.lastIndexOf("_") + 1)] : [state];
  return svg("text", {}, ...parts.map((part, index) => {
    const span = svg("tspan", { x: x + BOX.width / 2, y: y + BOX.height / 2 + 3 + (index - (parts.length - 1) / 2) * 9.5 });
    span.textContent = part;
    return span;
  }));
}

/** The way from one box to another: straight to a neighbour, above all of them back to the beginning. */
function curve([fromColumn, fromRow], [toColumn, toRow]) {
  const x = (column) => column * BOX.right + 2, y = (row) => row * BOX.down + 14;
  if (toColumn > fromColumn) return `M${x(fromColumn) + BOX.width} ${y(fromRow) + 13}L${x(toColumn)} ${y(toRow) + 13}`;
  if (toColumn === fromColumn) return `M${x(fromColumn) + 50} ${y(fromRow) + BOX.height}L${x(toColumn) + 50} ${y(toRow)}`;
  if (fromColumn - toColumn === 1) return `M${x(fromColumn)} ${y(fromRow) + 13}L${x(toColumn) + BOX.width} ${y(toRow) + 13}`;
  const above = fromRow ? y(fromRow) + 2 : 4;
  if (fromRow) return `M${x(fromColumn)} ${y(fromRow) + 6}L${x(toColumn) + BOX.width} ${y(toRow) + BOX.height - 4}`;
  return `M${x(fromColumn) + 50} ${y(fromRow)}V${above}H${x(toColumn) + 50}V${y(toRow)}`;
}

/* ---- where records come from -------------------------------------------------------------------------------- */

const recorded = $("records");
const live = recorded === null;
let paused = false;
let held = []; // messages that came while it was paused, as many as HOLD characters have room for
let heldSize = 0;
let heldCount = 0; // of their records
const HOLD = 64e6;

function take(text) {
  for (const each of text.split("\n")) {
    if (!each.trim()) continue;
    const record = JSON.parse(each);
    if ("trace" in record) begin(record);
    else if (trace.add(record) === diagram.exchange) soon(diagram);
  }
  soon(list);
}

function begin(head) {
  trace.clear();
  trace.head = head;
  list.chosen = null;
  diagram.show(null);
  document.title = `${head.app ?? "miniasgi"} – inspector`;
}

function say(text, name = "") {
  $("connection").textContent = text;
  $("connection").className = name;
}

function connect() {
  const url = new URL(`records${location.search}`, location.href);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  socket.onopen = () => say("Live", "live");
  socket.onmessage = ({ data }) => {
    if (!paused) return take(data);
    hold(data);
  };
  socket.onclose = () => {
    say("The server is not there; what was seen stays. Trying again …", "lost");
    setTimeout(connect, 1000);
  };
}

function hold(text) {
  held.push(text);
  heldSize += text.length;
  heldCount += text.split("\n").length;
  while (heldSize > HOLD) heldSize -= held.shift().length;
  showPause();
}

function pause(on) {
  paused = on;
  if (!on) {
    held.splice(0).forEach(take);
    heldSize = heldCount = 0;
  }
  showPause();
}

function showPause() {
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? `Go on${heldCount ? ` (${heldCount.toLocaleString("en")} more)` : ""}` : "Pause";
}

/* ---- hands on it -------------------------------------------------------------------------------------------- */

function back() {
  if ($("side").classList.contains("opened")) {
    $("side").classList.remove("opened");
    diagram.chosen = -1;
    details.show(null);
    soon(diagram);
    $("diagram").focus();
  } else {
    $("exchange").classList.remove("opened");
    $("list").focus();
  }
}

function move(step) {
  if (document.activeElement === $("diagram") && diagram.exchange) diagram.choose(diagram.chosen + step);
  else list.move(step);
}

function open() {
  if (document.activeElement === $("diagram")) {
    if (diagram.exchange) diagram.choose(Math.max(diagram.chosen, 0));
  } else if (list.chosen) {
    $("exchange").classList.add("opened");
    $("diagram").focus();
    if (diagram.chosen < 0) diagram.choose(0);
  } else list.move(0);
}

function theme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

const KEYS = {
  __proto__: null,
  j: () => move(1), ArrowDown: () => move(1), k: () => move(-1), ArrowUp: () => move(-1),
  Enter: open, ArrowRight: open, Escape: back, ArrowLeft: back,
  "/": () => $("filter").focus(), p: () => live && pause(!paused), t: theme, "?": () => $("help").showModal(),
};

function onKey(event) {
  const typing = event.target === $("filter");
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  if (typing && !["Escape", "ArrowDown", "Enter"].includes(event.key)) return;
  if (event.target.closest("button, a, summary") && event.key === "Enter") return;
  const act = KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  if (typing) $("list").focus();
  act();
}

function start() {
  list.rows = new Rows($("list"), 46, drawItem);
  diagram.rows = new Rows($("diagram"), 32, drawRow);
  drawLanes("h11");
  document.addEventListener("keydown", onKey);
  $("filter").addEventListener("input", () => soon(list));
  $("list").addEventListener("scroll", () => { list.follows = list.rows.atEnd; }, { passive: true });
  $("list").addEventListener("click", ({ target }) => {
    const item = target.closest(".item");
    if (item) list.choose(list.rows.items[item.dataset.index]);
  });
  $("diagram").addEventListener("click", ({ target }) => {
    const row = target.closest("[data-record]");
    if (row) diagram.choose(Number(row.dataset.record));
  });
  $("pause").onclick = () => pause(!paused);
  $("clear").onclick = () => { trace.clear(); list.chosen = null; diagram.show(null); soon(list); };
  $("theme").onclick = theme;
  $("keys").onclick = () => $("help").showModal();
  $("back").onclick = $("close").onclick = back;
  $("export").href = `export.html${location.search}`;
  if (live) {
    say("Connecting …");
    connect();
    soon(list);
    return;
  }
  $("pause").hidden = $("clear").hidden = $("export").hidden = true;
  take(recorded.textContent);
  say(`Recorded ${new Date(trace.head.began).toLocaleString()} by miniasgi ${trace.head.miniasgi}`);
  const first = trace.exchanges.find((each) => each.number) ?? trace.exchanges[0];
  list.render();
  if (first) list.choose(first, trace.exchanges.length === 1);
}

start();
