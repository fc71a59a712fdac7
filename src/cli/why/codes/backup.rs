//! Backups, restores, and whose the token is.

use super::Entry;

pub(super) const CODES: &[Entry] = &[
    Entry {
        code: "CHY-BACKUP-BASE",
        means: "An incremental archive was asked for, and there is no archive of this log that it could continue.",
        do_this: "Make a full one: `chancery backup` without --incremental.",
    },
    Entry {
        code: "CHY-BACKUP-CHAIN",
        means: "The archives do not follow each other: one is missing, or the order is wrong.",
        do_this: "Name all archives, oldest first, beginning with a full one; `chancery backup check --json` shows id and base of each.",
    },
    Entry {
        code: "CHY-BACKUP-CHANGED",
        means: "A file read otherwise the second time, or the archive did not read back as it was written. Nothing is left of it.",
        do_this: "Run it again; if it stays so, check disk, storage and memory of the machine.",
    },
    Entry {
        code: "CHY-BACKUP-DAMAGED",
        means: "The archive is not what was written: cut, changed, or put together by somebody else.",
        do_this: "Take another copy of it, or another archive. Nothing was changed on this box.",
    },
    Entry {
        code: "CHY-BACKUP-EXISTS",
        means: "There is a file where the archive should go, and an archive is never overwritten.",
        do_this: "Choose another name, or give a directory: the archive then gets a name of its own.",
    },
    Entry {
        code: "CHY-BACKUP-FORMAT",
        means: "The archive was made by a later version.",
        do_this: "Restore with the version that made it, or a later one.",
    },
    Entry {
        code: "CHY-BACKUP-FULL",
        means: "There is no room for the archive, or for what is restored.",
        do_this: "Make room, and run it again. A backup leaves nothing half done; a restore goes on.",
    },
    Entry {
        code: "CHY-BACKUP-IDENTITY",
        means: "The identity file holds no age identity, or one that is no recipient of the archive.",
        do_this: "Name the file that age-keygen wrote for a recipient that stood in the configuration when the archive was made.",
    },
    Entry {
        code: "CHY-BACKUP-IO",
        means: "A file of the backup cannot be read or written.",
        do_this: "Check path, rights and storage. A box with two users is backed up by root.",
    },
    Entry {
        code: "CHY-BACKUP-LOG",
        means: "The log is not what its published checkpoint says. Nothing was written.",
        do_this: "Run `chancery log verify`. An older archive is worth more now than before: keep it.",
    },
    Entry {
        code: "CHY-BACKUP-NAME",
        means: "A file that nobody expected has a name that an archive cannot hold.",
        do_this: "Take it out of the directory, or rename it to letters, digits and `-_.`.",
    },
    Entry {
        code: "CHY-BACKUP-PLACE",
        means: "Nothing says where the archive goes.",
        do_this: "Give --to, or set [backup] dir.",
    },
    Entry {
        code: "CHY-BACKUP-RECIPIENT",
        means: "Nobody could open the archive: there is no age recipient, or it is none.",
        do_this: "`age-keygen -o key.txt` on another machine; put the `age1…` it prints into [backup] recipients, and keep key.txt off this box.",
    },
    Entry {
        code: "CHY-BACKUP-STORE",
        means: "The store is in use, and the web process did not hand out a copy in time.",
        do_this: "See the web process's log, and run it again; or stop the box first.",
    },
    Entry {
        code: "CHY-EPOCH-FENCED",
        means: "The token says that another box has taken it: the CA was restored there, and goes on there. This box signs nothing.",
        do_this: "Switch this box off, and keep its disk: it may have records that the other lacks. Only if that restore was a mistake and the other box stays off: `chancery backup take-token --yes` here.",
    },
    Entry {
        code: "CHY-EPOCH-FILE",
        means: "The box's own epoch cannot be read, so whether the token is its own is not known.",
        do_this: "Check the disk. If this box has the right to sign: `chancery backup take-token --yes`.",
    },
    Entry {
        code: "CHY-EPOCH-MISSING",
        means: "The token held this box's epoch and does not any more: the object was removed, or the token was put back to an earlier state.",
        do_this: "Find out which, and which box has the right to sign; there: `chancery backup take-token --yes`.",
    },
    Entry {
        code: "CHY-EPOCH-UNREADABLE",
        means: "The token's epoch object does not read as one.",
        do_this: "If a later version wrote it, run that. Else find out who changed it, and remove it with the token's own tool.",
    },
    Entry {
        code: "CHY-EPOCH-UNSUPPORTED",
        means: "The token takes no data objects, so it cannot say whose it is.",
        do_this: "Nothing is wrong now. After a restore make sure yourself that the former box stays off, and have witnesses watch the log.",
    },
    Entry {
        code: "CHY-RESTORE-FORKED",
        means: "A witness knows another tree of the same size than the archive's: two boxes wrote under one origin.",
        do_this: "Keep everything. Find out which box wrote what; restore with another origin.",
    },
    Entry {
        code: "CHY-RESTORE-NOT-EMPTY",
        means: "This box has a CA, a log or a store already.",
        do_this: "Move its state directory away, or restore on another machine.",
    },
    Entry {
        code: "CHY-RESTORE-NOT-NEWEST",
        means: "The operator named a newer checkpoint than the archive has.",
        do_this: "Restore the archive that has it. If there is none, leave --newest out: another log goes on.",
    },
    Entry {
        code: "CHY-RESTORE-ORIGIN",
        means: "The new origin is no name that a log can have, or the old one.",
        do_this: "Give a schema-less URL that no log has had, such as ca.lan/log/r2.",
    },
    Entry {
        code: "CHY-RESTORE-OVERTAKEN",
        means: "While this restore was unfinished another one took the token.",
        do_this: "Decide which of the two boxes goes on, and remove the other's state.",
    },
    Entry {
        code: "CHY-RESTORE-TOKEN",
        means: "The token has not the keys that the CA's certificates were made for. Nothing was changed.",
        do_this: "Bring the box's own token. Keys are never in a backup: without them hold a ceremony for a new CA.",
    },
    Entry {
        code: "CHY-RESTORE-UNFINISHED",
        means: "A restore was stopped midway, and nothing starts before it is finished.",
        do_this: "`chancery restore` again with the same archives: it goes on where it stopped.",
    },
    Entry {
        code: "CHY-STORE-COPY",
        means: "The store cannot be copied, or not made again from its copy.",
        do_this: "Check the disk and run it again; for a restore take another archive.",
    },
];
