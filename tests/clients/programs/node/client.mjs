// A certificate with npm's acme-client: node client.mjs VERB NAME METHOD, the rest in the environment.
//   VERB    enrol | revoke (the certificate in chain.pem) | rekey | deactivate (the account)
//   METHOD  http-01 | dns-01 | tls-alpn-01
import { appendFileSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:tls';
import acme from 'acme-client';

const [verb, name, method] = process.argv.slice(2);
const { DIRECTORY, PROFILE, HOOK_WWW, HOOK_RECORDS, HOOK_TLS, EAB_KID, EAB_SECRET } = process.env;

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

if (verb === 'rekey') {
    const next = await acme.crypto.createPrivateEcdsaKey();
    await client.createAccount({ termsOfServiceAgreed: true });
    await client.updateAccountKey(next);
    writeFileSync('account.pem', next);
    process.exit(0);
}
if (verb === 'deactivate') {
    await client.createAccount({ termsOfServiceAgreed: true });
    await client.updateAccount({ status: 'deactivated' });
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
// `auto` asks for no profile, the calls that it consists of do.
const profiled = async () => {
    await client.createAccount({ termsOfServiceAgreed: true });
    const order = await client.createOrder({ identifiers: [{ type: 'dns', value: name }], profile: PROFILE });
    for (const authz of await client.getAuthorizations(order)) {
        const challenge = authz.challenges.find(({ type }) => type === method);
        await present[method](authz, challenge, await client.getChallengeKeyAuthorization(challenge));
        await client.completeChallenge(challenge);
        await client.waitForValidStatus(challenge);
        await remove[method](authz, challenge);
    }
    return client.getCertificate(await client.finalizeOrder(order, csr));
};
const chain = PROFILE ? await profiled() : await client.auto({
    csr,
    termsOfServiceAgreed: true,
    skipChallengeVerification: true,
    challengePriority: [method],
    challengeCreateFn: (authz, challenge, value) => present[challenge.type](authz, challenge, value),
    challengeRemoveFn: (authz, challenge) => remove[challenge.type](authz, challenge),
});
writeFileSync('key.pem', key);
writeFileSync('chain.pem', chain);
