// The puppet in Node: commands on standard input, answers and events on standard output, one JSON object a line.
// usage: node node.js FOLDER-WITH-PACKAGES
const net = require("node:net");
const path = require("node:path");
const readline = require("node:readline");

const packages = path.join(process.argv[2], "node_modules");
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

// Nothing but loopback is reached, and whoever tries is told on.
const connect = net.Socket.prototype.connect;
net.Socket.prototype.connect = function (...parameters) {
  const options = net._normalizeArgs ? net._normalizeArgs(Array.isArray(parameters[0]) ? parameters[0] : parameters)[0] : parameters[0];
  const host = options.host ?? "localhost";
  if (!["127.0.0.1", "::1", "localhost"].includes(host)) {
    say({ event: "outside", host });
    throw new Error(`${host} is not this machine`);
  }
  return connect.apply(this, parameters);
};
process.on("unhandledRejection", (error) => say({ event: "unhandled", text: String(error?.message ?? error), code: error?.code ?? null }));

// Node 20 has no WebSocket of its own. Requests are counted as they leave. In a browser an error that nobody listens to
// is nothing; an emitter of Node ends the process.
const WebSocket = require(path.join(packages, "ws"));
global.WebSocket = class extends WebSocket {
  constructor(...parameters) {
    super(...parameters);
    this.on("error", () => {});
  }
  send(data, ...more) {
    say({ event: "request", command: JSON.parse(Buffer.from(data).toString()).head.servcmd });
    return super.send(data, ...more);
  }
};

// The client writes to the console, which is where answers go.
for (const name of ["log", "info", "warn", "error", "debug"]) console[name] = () => {};

const loaded = require(path.join(packages, "@tencentcloud/chat"));
const { makePuppet } = require("./puppet.js");
const handle = makePuppet(loaded.default ?? loaded, say);
readline.createInterface({ input: process.stdin }).on("line", (line) => handle(JSON.parse(line))).on("close", () => process.exit(0));
say({ event: "started" });
