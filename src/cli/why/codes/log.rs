//! The log and who watches it: archive, proofs, tiles, witnesses, clock, disk.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
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
        code: "CHY-TILES-UNPROVEN",
        means: "The published tiles do not lead to the published checkpoint, or cannot be read, so the web process hands none of them out, and no proofs.",
        do_this: "After a power cut, or when they are written anew, it passes by itself as soon as the issuer has started. If it stays, stop the issuer, remove `public/tiles` in the state directory and start it again: the files are derived from the log and written anew.",
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
