// Prints a token made by the published Node package.
// usage: node sign.js SDKAPPID KEY IDENTIFIER EXPIRE_SECONDS [USERBUF]
// The package is looked for in NODE_PATH.
const { Api } = require('tls-sig-api-v2');

const [sdkAppId, key, identifier, expire, userbuf] = process.argv.slice(2);
console.log(new Api(Number(sdkAppId), key).genSig(identifier, Number(expire), userbuf));
