//! Token, PIN, module, keys.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-KEY-AMBIGUOUS",
        means: "Several objects on the token carry the CKA_ID of one key.",
        do_this: "Find out how the second one came there; remove it with the token's own tool, or hold a ceremony on a clean token.",
    },
    Entry {
        code: "CHY-KEY-EXTRACTABLE",
        means: "A key on the token is extractable or not sensitive, or once was: its private half may exist elsewhere.",
        do_this: "Do not use it. Generate a new key in a ceremony, on a token that keeps keys inside.",
    },
    Entry {
        code: "CHY-KEY-INCOMPLETE",
        means: "The token holds a certificate or a public key under the id of a key of this CA, but no private key.",
        do_this: "Find out who removed it. Restore the token by its maker's own means and run `chancery doctor`, or hold a ceremony for a new key.",
    },
    Entry {
        code: "CHY-KEY-MISMATCH",
        means: "The key on the token is not the key that the ceremony recorded.",
        do_this: "Insert the right token; do not sign with this one.",
    },
    Entry {
        code: "CHY-KEY-MISSING",
        means: "The token holds no key with the recorded CKA_ID.",
        do_this: "Check that the right token is inserted; `pkcs11-tool --list-objects` shows what it holds.",
    },
    Entry {
        code: "CHY-KEY-NOT-LOCAL",
        means: "A key was not generated on the token that holds it (CKA_LOCAL is not true).",
        do_this: "If it is a clone made by the maker's own means, set quirks.cloned in the token's settings; otherwise hold a ceremony for a new key.",
    },
    Entry {
        code: "CHY-KEY-PURPOSE",
        means: "A key of the CA may do more than sign (decrypt, unwrap, derive, or sign with recovery), and such uses can be made to yield signatures.",
        do_this: "Hold a ceremony for a new key. If the model cannot make keys without it, name the attribute under quirks.omit of the token's settings, so that it is forgiven knowingly.",
    },
    Entry {
        code: "CHY-KEY-QUARANTINED",
        means: "Signatures of a key did not verify, and were thrown away. After the first the key returns by itself once trial signatures verify; after the second within [token] quarantine-hours it stays out.",
        do_this: "Suspect the token, its firmware, its connection or the machine's memory; run `chancery doctor`. When that is settled, remove the file `wrong-signatures` in the issuer's directory and restart the issuer.",
    },
    Entry {
        code: "CHY-KEY-SIGNS-WRONG",
        means: "A key is the pinned one by its public half, and what it signs does not verify.",
        do_this: "Suspect the token, its firmware, its connection or the machine's memory. If it stays so, the private half was replaced: restore the key from the token's own backup, or hold a ceremony for a new one.",
    },
    Entry {
        code: "CHY-KEY-UNPROTECTED",
        means: "A key on the token signs without a login (CKA_PRIVATE is false).",
        do_this: "Do not use it. Generate a new key in a ceremony.",
    },
    Entry {
        code: "CHY-KEY-UNUSABLE",
        means: "A key on the token cannot do its work: it may not sign, wants the PIN each time, or its public half cannot be read.",
        do_this: "Hold a ceremony for a new key; the message names what is wrong with this one.",
    },
    Entry {
        code: "CHY-MODULE-ABSENT",
        means: "The PKCS#11 module cannot be loaded.",
        do_this: "Check [token] module: the file must exist, be readable by the issuer and be of this machine's architecture.",
    },
    Entry {
        code: "CHY-MODULE-LOAD",
        means: "The file named as PKCS#11 module is not a library of this machine, or no PKCS#11 module.",
        do_this: "Check [token] module: architecture, dependencies (`ldd`), and that it exports C_GetFunctionList.",
    },
    Entry {
        code: "CHY-MODULE-UNFIT",
        means: "The PKCS#11 module cannot be used by a program with threads of its own.",
        do_this: "Use another module, or a newer version of it.",
    },
    Entry {
        code: "CHY-PIN-COUNT-LOW",
        means: "A wrong PIN was tried since the last right one; few tries are left before the token locks.",
        do_this: "Log in once with the right PIN (`pkcs11-tool --login`), which resets the counter, and find out who tried.",
    },
    Entry {
        code: "CHY-PIN-EXPIRED",
        means: "The token says that the user PIN has expired.",
        do_this: "Set a new one with the token's own tool and store it where the configuration says.",
    },
    Entry {
        code: "CHY-PIN-FILE",
        means: "The PIN's file or credential is missing, empty, unreadable, or readable by others.",
        do_this: "Make it a file with the PIN alone, owned by the issuer's user, mode 0600.",
    },
    Entry {
        code: "CHY-PIN-FINAL-TRY",
        means: "One more wrong PIN would lock the token, so none was tried.",
        do_this: "Check the PIN by hand (`pkcs11-tool --login --test`); a right login resets the counter.",
    },
    Entry {
        code: "CHY-PIN-LOCKED",
        means: "The token has locked the user PIN.",
        do_this: "Unlock it with the security officer's PIN (`pkcs11-tool --init-pin` or the vendor's tool).",
    },
    Entry {
        code: "CHY-PIN-MEMORY",
        means: "The token refused the PIN, and that could not be remembered on disk.",
        do_this: "Do not restart before the PIN is corrected: each start tries it again and a token locks after a few.",
    },
    Entry {
        code: "CHY-PIN-REFUSED",
        means: "The token refused the PIN; it is not tried again until the PIN's source changes, because tokens lock after few attempts.",
        do_this: "Correct the PIN's file or credential; the next start tries it once. If the PIN was right and the token was wrong, `chancery doctor` shows which token answered.",
    },
    Entry {
        code: "CHY-PIN-UNSET",
        means: "The token has no user PIN.",
        do_this: "Initialize the token and its user PIN (`pkcs11-tool --init-pin` or the vendor's tool).",
    },
    Entry {
        code: "CHY-QUARANTINE-FILE",
        means: "The file `wrong-signatures` in the issuer's directory, which says what keys made wrong signatures, cannot be read or written.",
        do_this: "Find out whether the token is sound (`chancery doctor`); then remove the file, or make room for it, and restart the issuer.",
    },
    Entry {
        code: "CHY-SIGNATURE",
        means: "The token returned a signature that does not verify; it was thrown away.",
        do_this: "`chancery doctor` makes a trial signature. If it happens again, the token is faulty: replace it.",
    },
    Entry {
        code: "CHY-TLS-KEY-IN-MEMORY",
        means: "The key of TLS handshakes is in the issuer's memory, because the configuration says so: the one exception to keys on the token.",
        do_this: "Nothing, if that is meant: it is for tokens too slow to answer handshakes. Else set tls-key = \"token\" in the token's settings.",
    },
    Entry {
        code: "CHY-TOKEN-ABSENT",
        means: "No token with the recorded label and serial is in any slot of the module.",
        do_this: "Insert it, or check the module's own configuration (SOFTHSM2_CONF for SoftHSM2); `pkcs11-tool -L` shows what is there.",
    },
    Entry {
        code: "CHY-TOKEN-AMBIGUOUS",
        means: "Several tokens answer to one name.",
        do_this: "Name the token by its serial as well as its label, or take the other one out.",
    },
    Entry {
        code: "CHY-TOKEN-BUSY",
        means: "The token has no session or memory left.",
        do_this: "Lower [token] threads, or close other programs that use the token.",
    },
    Entry {
        code: "CHY-TOKEN-ERROR",
        means: "The token or its module reports a fault without a usable reason.",
        do_this: "The box tries to recover; check cable, power and the maker's own diagnosis if it lasts.",
    },
    Entry {
        code: "CHY-TOKEN-HANDLE",
        means: "A handle of a key went stale; the box finds the key again.",
        do_this: "Nothing; if it happens often, see who else uses the token.",
    },
    Entry {
        code: "CHY-TOKEN-HANGS",
        means: "A call to the PKCS#11 module did not return within [token] deadline-seconds; the process ended and recovers from its log.",
        do_this: "If it recurs, check the token's load and link, or raise the deadline.",
    },
    Entry {
        code: "CHY-TOKEN-KEYS",
        means: "A token that should carry this box's keys does not carry all of them, or not as the ceremony left them.",
        do_this: "The lines above say which and why. Restore the token again from its own backup, or look at the right one with --token.",
    },
    Entry {
        code: "CHY-TOKEN-LOGIN",
        means: "The login to the token ended; the box logs in again.",
        do_this: "Nothing; if it happens often, see who else uses the token.",
    },
    Entry {
        code: "CHY-TOKEN-LOST",
        means: "The token did not come back in this process, however often the module was initialized; a new process is started.",
        do_this: "Check cable, power and network of the token.",
    },
    Entry {
        code: "CHY-TOKEN-MECHANISM",
        means: "The token lacks the algorithm, curve or size that a key needs.",
        do_this: "Choose another kind in hsm/key/*.toml, or another token; `pkcs11-tool -M` lists what it can.",
    },
    Entry {
        code: "CHY-TOKEN-READ-ONLY",
        means: "The token or the session may not be written.",
        do_this: "Remove the token's write protection for the ceremony.",
    },
    Entry {
        code: "CHY-TOKEN-RECOVERING",
        means: "The token is away or being recovered; requests get 503 meanwhile.",
        do_this: "Usually nothing; if it lasts, check cable, power and network of the token.",
    },
    Entry {
        code: "CHY-TOKEN-SESSION",
        means: "A session with the token ended; the box opens another.",
        do_this: "Nothing; if it happens often, see who else uses the token.",
    },
    Entry {
        code: "CHY-TOKEN-SETTINGS",
        means: "The settings of the token, or the keys recorded for it, can never work.",
        do_this: "The message names the value; correct [token] or the files below hsm/.",
    },
    Entry {
        code: "CHY-TOKEN-SLOW",
        means: "The token signs slowly or a call to it hung.",
        do_this: "Check the token's load and link; threads and deadline are set in hsm/token/*.toml.",
    },
    Entry {
        code: "CHY-TOKEN-SOFTWARE",
        means: "The token is software (SoftHSM2, kryoptic, NSS, a simulated TPM …) whose keys lie in ordinary files, and this is a production board.",
        do_this: "Use a token of hardware. In a lab set [board] production = false; a ceremony is tried out with --rehearse, which brings a throw-away token of its own.",
    },
    Entry {
        code: "CHY-TOKEN-TEMPLATE",
        means: "The token refuses an attribute in the template of a new key.",
        do_this: "Name the attribute under quirks.omit in the token's settings; see hsm/README.md.",
    },
    Entry {
        code: "CHY-TOKEN-UNINITIALIZED",
        means: "There is a token, but it has not been initialized: it has neither a label nor a PIN.",
        do_this: "Initialize it with its maker's own tool (`pkcs11-tool --init-token`, then --init-pin), then run `chancery doctor` again. Keys that it may have had are gone with that.",
    },
    Entry {
        code: "CHY-URI",
        means: "A PKCS#11 URI (RFC 7512) is malformed, says what cannot be compared, or names something else than it stands for.",
        do_this: "Correct it as the message says; `chancery doctor --module PATH` shows the URI of each token.",
    },
    Entry {
        code: "CHY-URI-PIN-VALUE",
        means: "A PKCS#11 URI holds the PIN itself (`pin-value`), where everybody reads it.",
        do_this: "Change the PIN with the token's own tool, keep it in a file of mode 0600 or a credential, and name that: `pin-source=file:/PATH`, or the pin settings.",
    },
];
