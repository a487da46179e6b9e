// The puppet in a page, whose address it tells; whoever started it opens a browser there. Commands and answers pass through,
// so that it looks like the one in Node.
// usage: node browser.js FOLDER-WITH-PACKAGES
const fs = require("node:fs");
const http = require("node:http");
const path = require("node:path");
const readline = require("node:readline");

const client = path.join(process.argv[2], "node_modules", "@tencentcloud", "chat");
const main = path.join(client, JSON.parse(fs.readFileSync(path.join(client, "package.json"), "utf8")).main ?? "index.js");
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const queue = [];
let poll = null;
const give = () => {
  if (poll && queue.length) {
    poll.end(JSON.stringify(queue.splice(0)));
    poll = null;
  }
};
readline.createInterface({ input: process.stdin })
  .on("line", (line) => { queue.push(JSON.parse(line)); give(); })
  .on("close", () => process.exit(0));

const page = `<!doctype html><meta charset="utf-8"><script src="/client.js"></script><script src="/puppet.js"></script><script>
  const say = (line) => fetch("/say", { method: "POST", body: JSON.stringify(line) });
  let last = Promise.resolve();
  const inOrder = (line) => { last = last.then(() => say(line)); };
  addEventListener("unhandledrejection", (e) => inOrder({ event: "unhandled", text: String(e.reason?.message ?? e.reason), code: e.reason?.code ?? null }));
  const SDK = window.TencentCloudChat;
  const handle = makePuppet(SDK, inOrder);
  (async () => {
    inOrder({ event: "started" });
    for (;;) for (const command of await (await fetch("/next")).json()) handle(command);
  })();
</script>`;

const server = http.createServer((request, response) => {
  if (request.url === "/next") {
    poll = response;
    give();
  } else if (request.url === "/say") {
    let body = "";
    request.on("data", (piece) => { body += piece; }).on("end", () => { process.stdout.write(`${body}\n`); response.end(); });
  } else if (request.url === "/client.js" || request.url === "/puppet.js") {
    response.setHeader("content-type", "text/javascript; charset=utf-8");
    response.end(fs.readFileSync(request.url === "/client.js" ? main : path.join(__dirname, "puppet.js")));
  } else {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(page);
  }
});

server.listen(0, "127.0.0.1", () => say({ event: "page", url: `http://127.0.0.1:${server.address().port}/` }));
