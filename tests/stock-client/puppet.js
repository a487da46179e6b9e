// A client that does what it is told: one command in, one answer out, and whatever happens to it in between. It runs in
// Node and in a page, where SDK is the published client as it comes.
function makePuppet(SDK, say) {
  let chat = null;
  let isReady = false;
  const messages = new Map();
  const waiting = [];

  const keep = (message) => {
    messages.set(message.ID, message);
    return {
      ID: message.ID, from: message.from, seq: message.sequence, data: message.payload.data,
      extends: message.isSupportExtension,
    };
  };
  const message = (id) => {
    if (!messages.has(id)) throw new Error(`no message ${id}`);
    return messages.get(id);
  };
  const plain = (value) => JSON.parse(JSON.stringify(value ?? null));

  const commands = {
    async create({ app, server, text }) {
      chat = SDK.create({ SDKAppID: app, proxyServer: server, devMode: text });
      chat.setLogLevel(4);
      const E = SDK.EVENT;
      chat.on(E.SDK_READY, () => {
        isReady = true;
        waiting.splice(0).forEach((resolve) => resolve());
      });
      chat.on(E.MESSAGE_RECEIVED, ({ data }) => data.forEach((one) => say({ event: "message", ...keep(one) })));
      chat.on(E.MESSAGE_EXTENSIONS_UPDATED, ({ data }) => say({ event: "updated", ...plain(data) }));
      chat.on(E.MESSAGE_EXTENSIONS_DELETED, ({ data }) => say({ event: "deleted", ...plain(data) }));
      chat.on(E.KICKED_OUT, ({ data }) => say({ event: "kicked", ...plain(data) }));
      chat.on(E.NET_STATE_CHANGE, ({ data }) => say({ event: "net", ...plain(data) }));
    },
    async login({ user, ticket }) {
      await chat.login({ userID: user, userSig: ticket });
      if (!isReady) await new Promise((resolve) => waiting.push(resolve));
    },
    async logout() {
      isReady = false;
      await chat.logout();
    },
    async groups() {
      const { data } = await chat.getGroupList();
      return data.groupList.map((group) => group.groupID);
    },
    async send({ group, user, data }) {
      const one = chat.createCustomMessage({
        to: group ?? user,
        conversationType: group ? SDK.TYPES.CONV_GROUP : SDK.TYPES.CONV_C2C,
        payload: { data, description: "", extension: "" },
        isSupportExtension: true,
      });
      const sent = await chat.sendMessage(one);
      return keep(sent.data.message);
    },
    async history({ group, user }) {
      const conversationID = group ? `GROUP${group}` : `C2C${user}`;
      const { data } = await chat.getMessageList({ conversationID });
      return data.messageList.map(keep);
    },
    async set({ of, pairs }) {
      return plain((await chat.setMessageExtensions(message(of), pairs)).data);
    },
    async get({ of }) {
      return plain((await chat.getMessageExtensions(message(of))).data);
    },
    async delete({ of, keys }) {
      return plain((await chat.deleteMessageExtensions(message(of), keys)).data);
    },
    async clear({ of }) {
      return plain((await chat.deleteMessageExtensions(message(of))).data);
    },
  };

  return async ({ id, call, ...parameters }) => {
    try {
      say({ id, result: plain(await commands[call](parameters)) });
    } catch (error) {
      say({ id, error: { code: error?.code ?? null, text: String(error?.message ?? error) } });
    }
  };
}

if (typeof module !== "undefined") module.exports = { makePuppet };
