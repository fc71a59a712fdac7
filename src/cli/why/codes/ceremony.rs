//! Ceremonies, and the CA that they made.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-CA-ABSENT",
        means: "No ceremony has been held in this state directory: there is no ca/authority.json.",
        do_this: "Hold one: `chancery ceremony run FILE`, or point [state] dir at the directory that holds the CA.",
    },
    Entry {
        code: "CHY-CA-BROKEN",
        means: "ca/authority.json cannot be read, does not parse, or contradicts itself.",
        do_this: "Restore it from the ceremony's backup; it is never edited by hand.",
    },
    Entry {
        code: "CHY-CA-CROSS",
        means: "A file in ca/cross/ is no cross-certificate of this CA: one for the name and key of its issuing or root certificate, followed by what certifies it.",
        do_this: "Take it out of the directory, or put the whole chain into it, each certificate before the one that issued it.",
    },
    Entry {
        code: "CHY-CA-EXPIRED",
        means: "A certificate of the CA has expired; nothing it signed is valid any more.",
        do_this: "Hold a ceremony for a new one, and have clients trust it.",
    },
    Entry {
        code: "CHY-CA-EXPIRES",
        means: "A certificate of the CA expires within half a year; leaf certificates already end with it.",
        do_this: "Plan a ceremony for its successor now.",
    },
    Entry {
        code: "CHY-CA-INCOMPLETE",
        means: "The issuing certificate has been requested from an offline root but has not been imported.",
        do_this: "Sign the request where the root key is and import the certificate: `chancery ceremony import FILE`.",
    },
    Entry {
        code: "CHY-CA-LOG",
        means: "ca/authority.json and the log name other roots or issuing CAs: the file is older than the log, or was altered.",
        do_this: "Put back ca/ as the newest ceremony of this log left it; it is in the backup made after that ceremony.",
    },
    Entry {
        code: "CHY-CA-RETIRED",
        means: "This CA was retired: ca/retired.json says so. Its keys are destroyed and its log is closed.",
        do_this: "Nothing brings it back. Keep the log, the transcripts and public/ for as long as somebody may ask; a new CA needs a state directory of its own.",
    },
    Entry {
        code: "CHY-CA-RETIRING",
        means: "`chancery ceremony retire` began on this box and was cut short: keys may be destroyed already.",
        do_this: "Run it again with the same file: it goes on where it stopped.",
    },
    Entry {
        code: "CHY-CA-REVOKED",
        means: "The root has revoked this box's issuing certificate: its CRL lists it. Nothing is issued any more; CRLs still are.",
        do_this: "Hold a ceremony for another issuing CA. If it was a mistake, there is no way back: a revocation is for good.",
    },
    Entry {
        code: "CHY-CEREMONY-ATTRIBUTES",
        means: "A key that the ceremony made did not read back with the attributes that were asked for.",
        do_this: "Do not use this token for a CA, or name its quirks in the token's settings; the transcript shows what it answered.",
    },
    Entry {
        code: "CHY-CEREMONY-DONE",
        means: "A ceremony was held in this state directory: ca/authority.json exists.",
        do_this: "Nothing was changed. A second CA needs a state directory of its own.",
    },
    Entry {
        code: "CHY-CEREMONY-FILE",
        means: "The ceremony file, or a key file it names, asks for what cannot be.",
        do_this: "The message names the file and the value.",
    },
    Entry {
        code: "CHY-CEREMONY-IMPORT",
        means: "What shall be imported does not belong to what was exported here.",
        do_this: "Import the certificate that the root signed for this box's request, with the root that was named at the export.",
    },
    Entry {
        code: "CHY-CEREMONY-KEYS-EXIST",
        means: "The token holds keys with the names this ceremony would make.",
        do_this: "Nothing was changed. Use another token, or remove those keys with its own tool if you are sure that no certificate relies on them.",
    },
    Entry {
        code: "CHY-CEREMONY-MECHANISM",
        means: "A token does not list the PKCS#11 mechanisms to make one of the ceremony's keys, or to sign with it as its key file says.",
        do_this: "Nothing was changed. Choose another kind or signature in the key file, or a token that has them: `chancery doctor` lists what a token has.",
    },
    Entry {
        code: "CHY-CEREMONY-REQUEST",
        means: "The certificate request does not parse, or is not signed by the key it names.",
        do_this: "Export it again where the issuing key is, and carry it over unchanged.",
    },
    Entry {
        code: "CHY-CEREMONY-TOKEN",
        means: "The new key would be on another token than the one that this box signs with.",
        do_this: "Name the box's own token in [tokens]; moving to another token is a ceremony for a box of its own.",
    },
    Entry {
        code: "CHY-CEREMONY-UNFINISHED",
        means: "An earlier ceremony in this state directory stopped midway; its keys may be on the token.",
        do_this: "Read ca/unfinished.json; `chancery ceremony run FILE --discard-unfinished` removes exactly those keys and begins anew.",
    },
    Entry {
        code: "CHY-ISSUER-FIRST",
        means: "The issuing CA of this file took over from no other, so there is none to be done with.",
        do_this: "Name the file of the issuing CA that took over.",
    },
    Entry {
        code: "CHY-ISSUER-REQUESTED",
        means: "The certificate of another issuing CA was requested from the root and has not come yet; one at a time.",
        do_this: "Import it: `chancery ceremony import-issuer FILE --certificate PEM`; or give it up: `chancery ceremony import-issuer FILE --withdraw`.",
    },
    Entry {
        code: "CHY-ISSUER-SUPERSEDED",
        means: "A superseded issuing CA still signs CRLs, because certificates of it are valid.",
        do_this: "Wait: the issuer retires it by itself, and `chancery log list --kind authority-end` shows when. Devices can be pulled forward with `chancery recall start`.",
    },
    Entry {
        code: "CHY-KEY-REMAINS",
        means: "A key that was to be destroyed, or another of its label, is still on the token.",
        do_this: "Find out what it is (pkcs11-tool --list-objects --login), remove it by hand if it is the box's, and run the ceremony again.",
    },
    Entry {
        code: "CHY-PROMPT",
        means: "The PIN shall be asked for, but there is no terminal.",
        do_this: "Start in the foreground, or use pin = { file = … } or { credential = … }.",
    },
    Entry {
        code: "CHY-REHEARSAL",
        means: "A ceremony of this box cannot be rehearsed: SoftHSM2 makes no key like one of its own.",
        do_this: "Rehearse it on a box whose tokens you have twice, or on the maker's own simulator.",
    },
    Entry {
        code: "CHY-RETIRE-VALID",
        means: "The CA has certified devices that would go on being believed after it is gone, and that nobody could revoke.",
        do_this: "Revoke them or wait for their end; --although-valid retires the CA all the same.",
    },
    Entry {
        code: "CHY-ROOT-BUSY",
        means: "The root before this one has an issuing CA that is not done with: certificates below it may be valid.",
        do_this: "Add an issuing CA of the new root, wait until the log has retired the former one, and note that with `chancery ceremony finish-issuer`.",
    },
    Entry {
        code: "CHY-ROOT-CRL",
        means: "The root's CRL ends within ninety days or a third of its life, or has ended; devices that check the whole chain refuse every certificate then. Only the root key can sign a new one.",
        do_this: "Hold `chancery ceremony root-crl` where the root key is; on another box than that, take it in with `chancery ceremony import-root-crl`.",
    },
    Entry {
        code: "CHY-ROOT-CRL-OLD",
        means: "ca/root.crl is older than the root's CRL that this box has published, as after a restored backup.",
        do_this: "Put the newest CRL of the root back (from the root's box, or public/), or hold `chancery ceremony root-crl` again.",
    },
    Entry {
        code: "CHY-ROOT-FIRST",
        means: "The root of this file took over from no other, so there is none to be done with.",
        do_this: "Name the file of the root that took over.",
    },
    Entry {
        code: "CHY-ROOT-REVOKE",
        means: "The root was asked to revoke a serial number that nothing says it has certified; nothing was signed.",
        do_this: "Check the serial number; or give the certificate itself with --certificate.",
    },
    Entry {
        code: "CHY-ROOT-REVOKED",
        means: "The root has revoked this certificate already; nothing was signed.",
        do_this: "Nothing; without --revoke the next CRL lists it again.",
    },
    Entry {
        code: "CHY-TLS-KEY-ALONE",
        means: "There is one TLS key: it was never rotated.",
        do_this: "`chancery ceremony rotate-tls-key FILE` makes another.",
    },
    Entry {
        code: "CHY-TLS-KEY-BUSY",
        means: "A rotation of the TLS key is under way: the box still serves, or may serve, the former key's certificate.",
        do_this: "Restart the issuer, wait until `chancery status` shows the new certificate, then use finish-tls-key.",
    },
    Entry {
        code: "CHY-TRANSCRIPT",
        means: "A file in ca/ that is named like a transcript is none, or its signature cannot be written.",
        do_this: "Restore it as its ceremony left it, or take it out of ca/.",
    },
    Entry {
        code: "CHY-TRANSCRIPT-REHEARSAL",
        means: "The transcript is of a rehearsal: it counts for nothing and is in no log.",
        do_this: "Hold the ceremony itself.",
    },
    Entry {
        code: "CHY-TRANSCRIPT-UNKNOWN",
        means: "The transcript is not in this box's log: it was altered, is another CA's, or the issuer has not run since the ceremony.",
        do_this: "Start the issuer and ask again after half a minute; if it stays unknown, do not believe the transcript.",
    },
    Entry {
        code: "CHY-TRANSCRIPT-UNSIGNED",
        means: "The note beside the transcript is missing or not by a key of this log.",
        do_this: "The running issuer signs what it finds in ca/. A transcript whose note does not verify is not the one that was signed.",
    },
];
