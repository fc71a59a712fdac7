// A certificate with npm's acme-client: node client.mjs VERB NAME METHOD, the rest in the environment.
//   VERB    enrol | revoke (the certificate in chain.pem)
//   METHOD  http-01 | dns-01 | tls-alpn-01
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:tls';
import acme from 'acme-client';

const [verb, name, method] = process.argv.slice(2);
const { DIRECTORY, HOOK_WWW, HOOK_RECORDS, HOOK_TLS, EAB_KID, EAB_SECRET } = process.env;

if (!existsSync('account.pem')) writeFileSync('account.pem', await acme.crypto.createPrivateEcdsaKey());
const client = new acme.Client({
    directoryUrl: DIRECTORY,
    accountKey: readFileSync('account.pem'),
    externalAccountBinding: EAB_KID ? { kid: EAB_KID, hmacKey: EAB_SECRET } : undefined,
});

if (verb === 'revoke') {
    await client.createAccount({ termsOfServiceAgreed: true });
    await client.revokeCertificate(readFileSync('chain.pem'), { reason: 4 });
    process.exit(0);
}

let server;
const file = (challenge) => `${HOOK_WWW}/.well-known/acme-challenge/${challenge.token}`;
const record = (authz) => `${HOOK_RECORDS}/_acme-challenge.${authz.identifier.value}`;
const present = {
    'http-01': (authz, challenge, value) => writeFileSync(file(challenge), value),
    'dns-01': (authz, challenge, value) => appendFileSync(record(authz), `TXT ${value}\n`),
    'tls-alpn-01': async (authz, challenge, value) => {
        const [key, cert] = await acme.crypto.createAlpnCertificate(authz, value);
        server = createServer({ key, cert, ALPNProtocols: ['acme-tls/1'] });
        const [host, port] = HOOK_TLS.split(':');
        await new Promise((done) => server.listen(Number(port), host, done));
    },
};
const remove = {
    'http-01': (authz, challenge) => rmSync(file(challenge)),
    'dns-01': (authz) => rmSync(record(authz)),
    'tls-alpn-01': () => server.close(),
};

const [key, csr] = await acme.crypto.createCsr(
    { altNames: [name] },
    await acme.crypto.createPrivateEcdsaKey(),
);
const chain = await client.auto({
    csr,
    termsOfServiceAgreed: true,
    skipChallengeVerification: true,
    challengePriority: [method],
    challengeCreateFn: (authz, challenge, value) => present[challenge.type](authz, challenge, value),
    challengeRemoveFn: (authz, challenge) => remove[challenge.type](authz, challenge),
});
writeFileSync('key.pem', key);
writeFileSync('chain.pem', chain);
