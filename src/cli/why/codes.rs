//! The table of codes, sorted. A code is never given another meaning; new ones are added.

use super::Entry;

/// Every code an operator can meet.
pub const CODES: &[Entry] = &[
    Entry {
        code: "CHY-ACCOUNT-CAP",
        means: "An account has had all the certificates that issuance-per-account-per-hour allows.",
        do_this: "Look at what the account does (`chancery log list`); raise [issuer] issuance-per-account-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-ACCOUNT-UNKNOWN",
        means: "There is no account of this id.",
        do_this: "`chancery account list` shows all; it is the last part of the account's URL.",
    },
    Entry {
        code: "CHY-ADMIN-AWAY",
        means: "No issuer answers at its admin socket, or it ended in the middle of a question.",
        do_this: "Start the box (`chancery serve`, or systemctl start chancery-issuer) and ask again; after a lost answer look first whether it was done (`chancery log tail`).",
    },
    Entry {
        code: "CHY-ADMIN-DENIED",
        means: "Only the issuer's user and root, who can read state/issuer/admin, may ask the issuer what this command asks. Logged by the issuer: someone without the key tried.",
        do_this: "Run the command as the issuer's user or as root. Found in the issuer's log: find out who runs as that user.",
    },
    Entry {
        code: "CHY-ADMIN-MISMATCH",
        means: "The running issuer is another version of this program.",
        do_this: "Restart the box, so that it runs what is installed.",
    },
    Entry {
        code: "CHY-ADMIN-REFUSED",
        means: "The running issuer will not do what was asked.",
        do_this: "The message says why.",
    },
    Entry {
        code: "CHY-ADMIN-SIZE",
        means: "More was asked of the issuer at once than a question may hold (256 KiB).",
        do_this: "Ask in parts.",
    },
    Entry {
        code: "CHY-ARCHIVE-BUSY",
        means: "Another process archives to this directory.",
        do_this: "Wait for it, or archive to another directory.",
    },
    Entry {
        code: "CHY-ARCHIVE-DAMAGED",
        means: "The archive, or the copy that was just made of a segment, is not what the log holds or what its manifest says.",
        do_this: "Do not remove the log's own segments. Run `chancery log verify`, here and with --dir for the archive; if the log is sound, archive to a new directory and check the storage.",
    },
    Entry {
        code: "CHY-ARCHIVE-FOREIGN",
        means: "The archive is of another log, of another history of this log, or of a later version.",
        do_this: "Choose another directory; if this is this box's archive, the log was put back to an older state: see CHY-LOG-FORKED.",
    },
    Entry {
        code: "CHY-ARCHIVE-FULL",
        means: "There is no room for the next segment in the archive; what was copied before is whole.",
        do_this: "Make room or archive to a larger place, and run it again: it goes on.",
    },
    Entry {
        code: "CHY-ARCHIVE-IO",
        means: "A file of the archive cannot be read or written.",
        do_this: "Check that the storage is mounted and writable for this user, and run it again.",
    },
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
        code: "CHY-CEREMONY-REQUEST",
        means: "The certificate request does not parse, or is not signed by the key it names.",
        do_this: "Export it again where the issuing key is, and carry it over unchanged.",
    },
    Entry {
        code: "CHY-CEREMONY-UNFINISHED",
        means: "An earlier ceremony in this state directory stopped midway; its keys may be on the token.",
        do_this: "Read ca/unfinished.json; `chancery ceremony run FILE --discard-unfinished` removes exactly those keys and begins anew.",
    },
    Entry {
        code: "CHY-CERT-FILE",
        means: "A file that should hold a certificate holds none that can be read.",
        do_this: "Give the certificate in PEM (of a chain the first counts) or in DER.",
    },
    Entry {
        code: "CHY-CERT-REVOKED",
        means: "The certificate was revoked before; nothing was done.",
        do_this: "`chancery cert show SERIAL` says when and by whom.",
    },
    Entry {
        code: "CHY-CERT-UNKNOWN",
        means: "This CA issued no certificate with that serial.",
        do_this: "Take the serial from `chancery cert list`, or from the certificate: `openssl x509 -noout -serial`.",
    },
    Entry {
        code: "CHY-CLOCK-ACCEPT-NEEDLESS",
        means: "The clock is plausible, so there is nothing to accept.",
        do_this: "Nothing.",
    },
    Entry {
        code: "CHY-CLOCK-BACK",
        means: "The clock stands before the newest record of the log or before this program was built; nothing is signed until it has caught up.",
        do_this: "Set the clock (`timedatectl`); if the log's newest record is what is wrong, read `chancery log tail` before anything else.",
    },
    Entry {
        code: "CHY-CLOCK-JUMP",
        means: "The clock is further ahead of the newest record than clock-jump-hours allows.",
        do_this: "If the box was simply switched off for long, check the time and run `chancery clock accept`; otherwise set the clock.",
    },
    Entry {
        code: "CHY-CODE-UNKNOWN",
        means: "There is no such code.",
        do_this: "`chancery why` lists all codes.",
    },
    Entry {
        code: "CHY-CONFIG-BOARD",
        means: "The board and one of its fragments do not belong together: a lab or dev fragment in a production board.",
        do_this: "Remove the fragment from `inherit`, or set [board] production = false.",
    },
    Entry {
        code: "CHY-CONFIG-CYCLE",
        means: "A configuration file inherits itself, or the chain of inherited files is too deep.",
        do_this: "Break the circle in the `inherit` lines that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-KEY",
        means: "A configuration file has a key that does not exist.",
        do_this: "Correct the spelling; the message names line and nearest key. `firmware-config/README.md` lists every key.",
    },
    Entry {
        code: "CHY-CONFIG-MISMATCH",
        means: "Web and issuer process read different configurations, or are different versions.",
        do_this: "Restart both: `systemctl restart chancery-issuer chancery-web`, or `chancery serve`.",
    },
    Entry {
        code: "CHY-CONFIG-POLICY",
        means: "The name policy does not parse, or allows more than the issuing certificate's name constraints.",
        do_this: "Narrow [policy], or hold a ceremony for an issuing certificate that allows what you want.",
    },
    Entry {
        code: "CHY-CONFIG-PROFILE",
        means: "A certificate profile is contradictory, is named twice, or the default names none.",
        do_this: "Correct the profile file that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-READ",
        means: "A configuration file cannot be read.",
        do_this: "Check path, owner and mode; `--config FILE` or CHANCERY_CONFIG choose another.",
    },
    Entry {
        code: "CHY-CONFIG-SECRET",
        means: "A secret stands in a configuration file.",
        do_this: "Move it to a file of mode 0600 and write `pin = { file = \"PATH\" }`, or use a systemd credential: `pin = { credential = \"NAME\" }`. Then change the PIN: it has been on disk in the clear.",
    },
    Entry {
        code: "CHY-CONFIG-SOFTHSM-PRODUCTION",
        means: "A production board uses SoftHSM2, which keeps keys in ordinary files.",
        do_this: "Use a real token, or say that this is a lab: [board] production = false.",
    },
    Entry {
        code: "CHY-CONFIG-SYNTAX",
        means: "A configuration file is not TOML.",
        do_this: "Correct the line that the message names.",
    },
    Entry {
        code: "CHY-CONFIG-VALUE",
        means: "A configuration value has the wrong type or is out of range.",
        do_this: "Correct the line that the message names; `firmware-config/README.md` says what each key takes.",
    },
    Entry {
        code: "CHY-CONFINE",
        means: "The web process cannot confine itself: this kernel has no Landlock, or refuses it.",
        do_this: "Use a kernel with Landlock (5.13 or newer, `lsm=landlock,…`), or accept the risk with [web] unconfined = true.",
    },
    Entry {
        code: "CHY-CONFIRM",
        means: "The verb changes something for good and was not confirmed.",
        do_this: "Read what it says it would do; if that is right, repeat it with --yes.",
    },
    Entry {
        code: "CHY-CRL-STALE",
        means: "The CRL is near its end and no new one can be signed; devices that check it will refuse every certificate then.",
        do_this: "See the other problems in `chancery status`: mostly the token, the clock or the disk.",
    },
    Entry {
        code: "CHY-CSV",
        means: "A CSV file cannot be read or written, or says something else than tickets.",
        do_this: "Correct the line that the message names. The first row names the columns: note, names, suffixes, networks, profile, uses, days, shared.",
    },
    Entry {
        code: "CHY-DISK-FULL",
        means: "The disk is full but for the reserve; revocations and CRLs still work, issuance does not.",
        do_this: "Free space on the file system of the state directory, or enlarge it. The log itself must never be thinned out.",
    },
    Entry {
        code: "CHY-DISK-LOW",
        means: "The file system of the state directory is nearly full.",
        do_this: "Free space on it or enlarge it before issuance stops.",
    },
    Entry {
        code: "CHY-DISK-SLOW",
        means: "Making data durable takes long on this disk, or the file system keeps nothing durable.",
        do_this: "Move the state directory to a disk that honours fsync quickly.",
    },
    Entry {
        code: "CHY-DNS-MULTICAST",
        means: "An interface of [validation] mdns-interfaces is not there, so names below `local` are not asked on it. It is looked for anew at each question.",
        do_this: "Compare the name with `ip link`; if the interface only comes up late, nothing need be done.",
    },
    Entry {
        code: "CHY-DNS-SYSTEM",
        means: "The system's DNS servers could not be read from /etc/resolv.conf, or the resolver could not be built; names outside the configured zones do not resolve.",
        do_this: "Name the servers under [[validation.resolvers]], with zone `.` for the default, or mend /etc/resolv.conf and restart.",
    },
    Entry {
        code: "CHY-INTERNAL",
        means: "Something happened that should be impossible.",
        do_this: "Keep the log output and report it; restarting is safe, for state is recovered from the log.",
    },
    Entry {
        code: "CHY-IPC-BROKEN",
        means: "Web and issuer process do not understand each other.",
        do_this: "Restart both; both must be the same version and read the same configuration.",
    },
    Entry {
        code: "CHY-IPC-MISMATCH",
        means: "Web process and issuer are of different versions or have read different configurations, or what answers at the socket is not an issuer.",
        do_this: "Restart both: `systemctl restart chancery-issuer chancery-web`, or `chancery serve`.",
    },
    Entry {
        code: "CHY-IPC-PEER",
        means: "The process at the other end of the issuer's socket runs as a user that is not expected there.",
        do_this: "Find out who it is; the expected users are those of the two services.",
    },
    Entry {
        code: "CHY-IPC-SOCKET",
        means: "The issuer's socket cannot be made or reached.",
        do_this: "Check that the issuer runs and that owner and mode of the run directory let the web process in.",
    },
    Entry {
        code: "CHY-IPC-THREADS",
        means: "A thread of the connection between web process and issuer cannot start.",
        do_this: "Raise the limit on tasks (`TasksMax=` of the unit, or `ulimit -u`).",
    },
    Entry {
        code: "CHY-ISSUANCE-CAP",
        means: "All the certificates that issuance-per-hour allows were issued within the hour; further orders wait.",
        do_this: "Find out who orders them (`chancery log list`); raise [issuer] issuance-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-ISSUER-AWAY",
        means: "The issuer process does not answer.",
        do_this: "See why it stopped: `journalctl -u chancery-issuer`, or the output of `chancery serve`.",
    },
    Entry {
        code: "CHY-ISSUER-BUSY",
        means: "The issuer cannot record what was asked at present: its disk is full, or its clock is not believed.",
        do_this: "Look at `chancery status`, and ask again.",
    },
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
        code: "CHY-KEY-QUARANTINED",
        means: "The token returned a signature that does not verify. It was thrown away, and the key signs nothing until a restart.",
        do_this: "Suspect the token, its firmware or the machine's memory; run `chancery doctor` before the restart.",
    },
    Entry {
        code: "CHY-KEY-UNUSABLE",
        means: "A key on the token cannot do its work: it may not sign, wants the PIN each time, or its public half cannot be read.",
        do_this: "Hold a ceremony for a new key; the message names what is wrong with this one.",
    },
    Entry {
        code: "CHY-LINT",
        means: "A certificate was written that the lints refuse, so it was not signed. This is a bug.",
        do_this: "Report it with the log lines around it; other requests are not affected.",
    },
    Entry {
        code: "CHY-LOG-ABSENT",
        means: "The directory holds no log.",
        do_this: "Hold the ceremony (`chancery ceremony run FILE`), or restore the log from its copy, or point [state] dir at the right directory.",
    },
    Entry {
        code: "CHY-LOG-BUSY",
        means: "Another process writes this log.",
        do_this: "Stop the issuer first: `systemctl stop chancery-issuer`.",
    },
    Entry {
        code: "CHY-LOG-COLD",
        means: "A segment of the log is a symbolic link, and what it leads to is not there.",
        do_this: "Mount the storage that the link names, before the issuer starts: RequiresMountsFor= in its unit.",
    },
    Entry {
        code: "CHY-LOG-DAMAGED",
        means: "The log is damaged below what was known to be durable; nothing is signed.",
        do_this: "Do not delete anything. Copy the directory, check the disk, restore the log from its mirror or backup, then `chancery log verify`.",
    },
    Entry {
        code: "CHY-LOG-EXISTS",
        means: "A ceremony was to begin a log where there is one already.",
        do_this: "Nothing was changed. A log is never begun anew: use another state directory for another CA.",
    },
    Entry {
        code: "CHY-LOG-FOREIGN",
        means: "The log belongs to another CA than ca/authority.json.",
        do_this: "Point [state] dir at the matching directory; never copy a log between CAs.",
    },
    Entry {
        code: "CHY-LOG-FORKED",
        means: "The log's records are not those that a checkpoint of this log was signed over: two copies have been written, or one was altered.",
        do_this: "Nothing is signed. Find the copy that the checkpoint belongs to and restore it; keep both for the inquiry.",
    },
    Entry {
        code: "CHY-LOG-FORMAT",
        means: "The log was written by a newer version of this program.",
        do_this: "Run that version, or a newer one.",
    },
    Entry {
        code: "CHY-LOG-FULL",
        means: "The disk has no room for the log: only revocations and CRLs are logged, from a reserve.",
        do_this: "Make room on the file system of the state directory; issuing goes on by itself within seconds.",
    },
    Entry {
        code: "CHY-LOG-INDEX",
        means: "The log's index cannot be read or contradicts the log; nothing is issued meanwhile.",
        do_this: "Stop the issuer, run `chancery log rebuild-index` and start it again. The index is built anew from the log; nothing is lost. If there is no room for it, free some first.",
    },
    Entry {
        code: "CHY-LOG-IO",
        means: "The disk refused a read, a write or a sync of the log. After a failed sync what is on the disk is unknown, so the process ends and reads the log again.",
        do_this: "Check the disk (`dmesg`, SMART) and the rights of the log's directory; it recovers by itself at the next start if the disk does.",
    },
    Entry {
        code: "CHY-LOG-KEY",
        means: "The keys that the log's own records name are not those that ca/authority.json names: the log key was rotated, and log and ca/ are of different times.",
        do_this: "Restore ca/ as the ceremony of the newest log key left it; `chancery log verify` says which keys the log names.",
    },
    Entry {
        code: "CHY-LOG-KEY-ALONE",
        means: "One key signs the log's checkpoints: there is no former key to retire or to be done with.",
        do_this: "Nothing; `chancery log-key show` names the keys.",
    },
    Entry {
        code: "CHY-LOG-KEY-BUSY",
        means: "A rotation of the log key is under way: the former key still signs, or its ceremony was not finished.",
        do_this: "Wait for the end of the cross-over or end it with `chancery log-key retire`, then run `chancery ceremony finish-log-key`.",
    },
    Entry {
        code: "CHY-LOG-PANIC",
        means: "A thread of the log ended unexpectedly.",
        do_this: "The process restarts and recovers. Please report it with the lines before it.",
    },
    Entry {
        code: "CHY-LOG-SCRATCH",
        means: "`chancery log verify` found no room to sort what a large log says of each serial.",
        do_this: "Name a directory with room by --scratch: it takes about 30 octets for each certificate of the log, and nothing stays in it.",
    },
    Entry {
        code: "CHY-LOG-TILES",
        means: "The published tree of the log (`public/tiles`) cannot be written. No new checkpoint is published, so no certificate is released, until it can.",
        do_this: "Free some space on the disk of the state directory, or correct the rights of `public/tiles`; it goes on by itself. The files are derived from the log: they may be removed while the issuer is stopped, and are written anew.",
    },
    Entry {
        code: "CHY-LOG-UNCOVERED",
        means: "No published checkpoint covers the record yet, so there is nothing to prove it under.",
        do_this: "Start the issuer, which signs a checkpoint over everything at once, and try again.",
    },
    Entry {
        code: "CHY-LOG-UNKNOWN",
        means: "The disk reported an error while the log was made durable, so what is on disk is unknown. The issuer ends and reads it again.",
        do_this: "Look for disk errors (`dmesg`, `smartctl`); if the issuer starts again, nothing was lost.",
    },
    Entry {
        code: "CHY-LOG-UNSEALED",
        means: "Complete segments could not be made immutable.",
        do_this: "Run `chancery log seal` as root, on ext4, xfs, btrfs or f2fs. Without the attribute mode 0400 keeps them from accidents.",
    },
    Entry {
        code: "CHY-LOG-UNSIGNED",
        means: "The log key can sign no checkpoints: the token refused for good, or made a signature that does not verify.",
        do_this: "`chancery doctor` tries the key; check token and PIN.",
    },
    Entry {
        code: "CHY-LOG-UNSOUND",
        means: "`chancery log verify` found records, signatures or checkpoints that contradict each other.",
        do_this: "Keep the directory as it is, and a copy of it. The findings name the leaves; compare with a mirror or an older checkpoint.",
    },
    Entry {
        code: "CHY-LOG-WAITS",
        means: "The log takes no records: its disk is full but for the reserve, or it is overloaded.",
        do_this: "Free some space if `df` says so; otherwise it passes by itself.",
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
        code: "CHY-NOT-READY",
        means: "The web process answers, but nothing can be issued at the moment.",
        do_this: "`chancery doctor` names the part that is to blame.",
    },
    Entry {
        code: "CHY-NOT-ROOT",
        means: "The verb needs privileges that this user has not.",
        do_this: "Run it as root, or as the user that the message names.",
    },
    Entry {
        code: "CHY-OS",
        means: "The operating system refused something that is otherwise granted.",
        do_this: "The message names the call and the reason.",
    },
    Entry {
        code: "CHY-OWNER",
        means: "The user as which the issuer runs may not open the PIN's file or the token's files.",
        do_this: "Run the command at the end of the message as root.",
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
        code: "CHY-PORT",
        means: "An address cannot be listened on: it is in use, not this machine's, or below 1024 without the privilege.",
        do_this: "Stop what uses it (`ss -ltnp`), correct [web] listen, or grant CAP_NET_BIND_SERVICE.",
    },
    Entry {
        code: "CHY-PROMPT",
        means: "The PIN shall be asked for, but there is no terminal.",
        do_this: "Start in the foreground, or use pin = { file = … } or { credential = … }.",
    },
    Entry {
        code: "CHY-PROOF-FLAW",
        means: "A proof that a certificate is in the log does not hold, is of another log or under another key, or is about another certificate.",
        do_this: "Check that the key is this log's (`chancery log key`, or the ceremony's transcript) and that proof and certificate belong together; fetch the proof anew. If it still fails, keep the file: a certificate whose log cannot prove it deserves no trust.",
    },
    Entry {
        code: "CHY-PUBLIC",
        means: "A file for everyone (CRL, chain, root) cannot be written.",
        do_this: "See that the public directory belongs to the issuer's user and has room; the message names the file.",
    },
    Entry {
        code: "CHY-RANDOM-SOURCE",
        means: "The operating system gave no random octets; the process stopped, since nothing can be signed safely without them.",
        do_this: "Look for kernel messages about the random source; on a new board wait until it has gathered entropy, then restart.",
    },
    Entry {
        code: "CHY-RECALL",
        means: "A recall was asked for that makes no sense, or one that does not count is to end.",
        do_this: "Correct the window or the URL; `chancery recall list` shows the recalls that count.",
    },
    Entry {
        code: "CHY-REGISTRATIONS",
        means: "More accounts were asked for than registrations-per-hour allows; the rest must wait.",
        do_this: "Find out who makes them; raise [issuer] registrations-per-hour if it is right to.",
    },
    Entry {
        code: "CHY-REVOCATIONS",
        means: "More certificates were to be revoked within an hour than revocations-per-account-per-hour or revocations-of-others-per-hour allows.",
        do_this: "Find out who asks (`chancery log list --kind revoked`); revoke what must be revoked yourself (`chancery cert revoke`), or raise the limit if it is right to.",
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
        code: "CHY-SERVE-REFUSED",
        means: "A process refused to start and only an operator can change that; `serve` ends instead of trying again and again.",
        do_this: "Do what the process's own message, just above, says.",
    },
    Entry {
        code: "CHY-SIGNATURE",
        means: "The token returned a signature that does not verify; it was thrown away.",
        do_this: "`chancery doctor` makes a trial signature. If it happens again, the token is faulty: replace it.",
    },
    Entry {
        code: "CHY-SOCKET",
        means: "The issuer's socket cannot be made.",
        do_this: "See that its directory exists and belongs to the issuer's user; the message names the path.",
    },
    Entry {
        code: "CHY-SOCKET-IN-USE",
        means: "Another issuer answers at the socket: only one may run.",
        do_this: "Stop the other one, or configure another [state] dir.",
    },
    Entry {
        code: "CHY-SOCKET-THREADS",
        means: "A thread that listens at the issuer's socket cannot start.",
        do_this: "Raise the limit on tasks (`TasksMax=` of the unit, or `ulimit -u`).",
    },
    Entry {
        code: "CHY-STATE-DIR",
        means: "The state directory is missing or not writable.",
        do_this: "Create it, owned by the user that the message names, or correct [state] dir.",
    },
    Entry {
        code: "CHY-STORE",
        means: "The store of orders cannot be opened or written.",
        do_this: "Check disk and owner of the web directory; the store holds no certificate and can be recreated, but open orders are then lost.",
    },
    Entry {
        code: "CHY-STORE-CORRUPT",
        means: "The store of orders is damaged, or a newer release wrote it.",
        do_this: "Restore it from a backup, or move the file away to begin with an empty one: accounts and open orders are then lost, certificates and their log are not.",
    },
    Entry {
        code: "CHY-STORE-IO",
        means: "The store of orders could not be read or written while serving; nothing is known of the last write, so the process stops.",
        do_this: "Check disk and file system (`dmesg`, `df`), then start again: it recovers by itself.",
    },
    Entry {
        code: "CHY-STORE-LOCKED",
        means: "Another process has the store of orders open.",
        do_this: "Stop the other one (`systemctl status chancery-web`), or give this one another state directory.",
    },
    Entry {
        code: "CHY-THREADS",
        means: "The operating system gave no further thread.",
        do_this: "Raise the limit on tasks (systemd: TasksMax), or lower [token] threads.",
    },
    Entry {
        code: "CHY-TICKET-ALTERED",
        means: "A ticket's file says something else than the log recorded when the ticket was minted.",
        do_this: "Find out who changed files below issuer/tickets; restore them from a backup. The ticket is not honoured meanwhile.",
    },
    Entry {
        code: "CHY-TICKET-BAD",
        means: "A ticket was asked for that makes no sense: a name that no one gets, a profile that is not there, no use, or an end in the past.",
        do_this: "Correct what the message names. Nothing was minted.",
    },
    Entry {
        code: "CHY-TICKET-CLASH",
        means: "A name would be bound to two tickets, or is bound to one that still holds it.",
        do_this: "Choose other names, or --shared for both; or revoke the ticket that holds the name and deactivate its accounts.",
    },
    Entry {
        code: "CHY-TICKET-FILE",
        means: "A file of enrolment tickets, below issuer/tickets, cannot be read or written.",
        do_this: "Look at the disk and at who owns the file. Restore it from a backup; taken away, its tickets are lost, and accounts that registered with them get no certificates.",
    },
    Entry {
        code: "CHY-TICKET-LOST",
        means: "An account asks for a certificate, and the ticket it registered with is in no file of the issuer: what it may have is not known.",
        do_this: "Restore issuer/tickets from a backup; or deactivate the account (`chancery account deactivate`) and give its device a new ticket.",
    },
    Entry {
        code: "CHY-TICKET-PARTLY",
        means: "Of several tickets only some were recorded, and their secrets were not shown to anyone.",
        do_this: "Revoke them (`chancery ticket list`, `chancery ticket revoke`) and mint again when `chancery status` is well.",
    },
    Entry {
        code: "CHY-TICKET-UNKNOWN",
        means: "There is no ticket of this id.",
        do_this: "`chancery ticket list` shows all.",
    },
    Entry {
        code: "CHY-TILES-UNPROVEN",
        means: "The published tiles do not lead to the published checkpoint, or cannot be read, so the web process hands none of them out, and no proofs.",
        do_this: "After a power cut, or when they are written anew, it passes by itself as soon as the issuer has started. If it stays, stop the issuer, remove `public/tiles` in the state directory and start it again: the files are derived from the log and written anew.",
    },
    Entry {
        code: "CHY-TLS-CERTIFICATE",
        means: "This box has no TLS certificate for itself, or it ends soon, and none can be made.",
        do_this: "See the other problems in `chancery status`; check [issuer] tls-names.",
    },
    Entry {
        code: "CHY-TLS-MESSAGE",
        means: "The TLS key was asked to sign something that is no TLS handshake. It did not.",
        do_this: "The web process is faulty or taken over: restart it, keep its logs, and look into them.",
    },
    Entry {
        code: "CHY-TLS-NAMES",
        means: "The names of this box for its own certificate are missing, do not parse, or are outside what the issuing certificate permits.",
        do_this: "Correct [issuer] tls-names.",
    },
    Entry {
        code: "CHY-TLS-PENDING",
        means: "The issuer answers but has not made the certificate of this box itself yet, so no TLS connection can be served.",
        do_this: "It passes within seconds of a start; if not, see the other problems in `chancery status`: mostly the token, the clock or the disk.",
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
        code: "CHY-TOKEN-TEMPLATE",
        means: "The token refuses an attribute in the template of a new key.",
        do_this: "Name the attribute under quirks.omit in the token's settings; see hsm/README.md.",
    },
    Entry {
        code: "CHY-USAGE",
        means: "The command line does not make sense.",
        do_this: "`chancery help` shows the commands.",
    },
    Entry {
        code: "CHY-VALIDITY",
        means: "No certificate of the asked lifetime can be made, mostly because the issuing certificate ends too soon.",
        do_this: "Hold a ceremony for a new issuing certificate, or shorten the profile's lifetime.",
    },
    Entry {
        code: "CHY-VKEY",
        means: "A text that should be a public key in the form of a vkey is none.",
        do_this: "Copy it whole, name, id and key with their plus signs: `chancery log key` prints the log's, a witness prints its own.",
    },
    Entry {
        code: "CHY-WATCHED-FORK",
        means: "Another log that this box is a witness of signed two trees of one size that exclude each other.",
        do_this: "Tell its operator and keep the .fork file in the issuer's witness directory: it is the proof. When the log was begun anew under another origin, take the old vkey out of [issuer] watched-logs and remove the file.",
    },
    Entry {
        code: "CHY-WATCHED-SILENT",
        means: "A log that this box is a witness of has not been brought to it for two hours, or never.",
        do_this: "Ask its operator whether that box runs and names this one in [[web.witnesses]]; a log that stays away from its witnesses is not watched.",
    },
    Entry {
        code: "CHY-WEB-AWAY",
        means: "The web process does not answer.",
        do_this: "Start it, or see why it stopped: `journalctl -u chancery-web`, or the output of `chancery serve`.",
    },
    Entry {
        code: "CHY-WITNESS-AWAY",
        means: "A witness of this log cannot be reached.",
        do_this: "Issuance goes on. See that it runs and that this box reaches its host and port ([[web.witnesses]] url); it is tried again by itself, at the latest every ten minutes.",
    },
    Entry {
        code: "CHY-WITNESS-FORK",
        means: "A witness keeps a checkpoint that this log's own key signed and that this log does not continue: an older state was put back, or two boxes use one log key.",
        do_this: "No certificate is issued; revocations and CRLs go on. Put the newest log directory back (another backup, the exported segments) and restart: the evidence, issuer/fork, is then found refuted and removed. If the newer records are lost, certificates issued meanwhile are unknown: hold a ceremony for a new CA with another origin.",
    },
    Entry {
        code: "CHY-WITNESS-KEY",
        means: "This box is to cosign other logs and has no key for it, or the key does not sign as it should.",
        do_this: "`chancery ceremony run hsm/ceremony/witness.toml` makes the key; restart the box after it. Otherwise check the token (`chancery doctor`).",
    },
    Entry {
        code: "CHY-WITNESS-PROOF",
        means: "No consistency proof for a witness can be made of the log's published tiles.",
        do_this: "Issuance goes on. See that the public directory's tiles/ is whole and the issuer's user can read it; `chancery log verify` says whether the log itself is.",
    },
    Entry {
        code: "CHY-WITNESS-REFUSES",
        means: "A witness of this log answers and does not cosign.",
        do_this: "Issuance goes on. Read the rest of the message: the log must be configured at the witness with its origin and vkey, and the witness here with its own vkey.",
    },
    Entry {
        code: "CHY-WITNESS-ROOTS",
        means: "The certificates that a witness's https certificate must lead to cannot be read.",
        do_this: "Name a PEM file in [[web.witnesses]] roots that the web process's user can read, or install the system's (ca-certificates).",
    },
    Entry {
        code: "CHY-WITNESS-STATE",
        means: "The file that says what this box cosigned last for another log cannot be read or written.",
        do_this: "Nothing is cosigned for that log meanwhile. Restore the file from the newest backup; remove it only if you accept that the log may be cosigned from any state on.",
    },
    Entry {
        code: "CHY-WITNESS-VKEY",
        means: "A vkey in [[web.witnesses]] or [issuer] watched-logs is none, or of the wrong kind.",
        do_this: "Copy it whole: a witness prints its own with `chancery witness key`, a log's is in its ceremony's transcript and on `chancery witness key` too.",
    },
];
