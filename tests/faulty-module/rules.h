/* What a rules file says. See README.md for its grammar. */
#ifndef FAULTY_RULES_H
#define FAULTY_RULES_H

#include <stdbool.h>
#include <stddef.h>

typedef unsigned long W; /* CK_ULONG, and every handle, flag and return value */

enum { FUNCTIONS = 102, IN_2_40 = 68, IN_3_0 = 92, RULES = 64, WORD = 128, OCTETS = 64 };

enum action {
    DO_RETURN,       /* number: the wrapped module is not called */
    DO_LOSE,         /* number: it is called, and its answer replaced */
    DO_SLEEP,        /* number: milliseconds; other rules still count */
    DO_HANG,         /* number: milliseconds, 0 for ever */
    DO_ABORT,
    DO_SEGFAULT,
    DO_EXIT,
    DO_FLIP,         /* one bit of the signature */
    DO_ZERO,         /* the signature is all zeros */
    DO_SHORT,        /* the signature lacks its last octet */
    DO_STALE,        /* the signature made before this one */
    DO_END_SESSION,  /* the session of this call */
    DO_END_SESSIONS, /* every session, and with them the login */
    DO_DISCONNECT,   /* every session, and no new one until C_Initialize */
    DO_LOGOUT,
    DO_HANDLES,      /* object handles given out so far are invalid */
    DO_ID,           /* octets: this CKA_ID is searched as other */
    DO_ATTRIBUTE,    /* number: attribute; octets: what it reads, or hidden */
};

struct rule {
    bool on[FUNCTIONS];
    char id[WORD]; /* empty: counted by this process since the file changed */
    char label[WORD];
    W skip, every, times;
    W chance, of; /* of 0: always */
    unsigned long long seed;
    enum action action;
    W number;
    unsigned char octets[OCTETS], other[OCTETS];
    size_t length, other_length;
    bool hidden;
    /* How far it is. */
    W seen, fired;
};

enum presence { PRESENT, ABSENT, LISTED, SLOTLESS };

struct rules {
    char module[4096];
    int interface; /* 0: as the wrapped module; 240, 300, 320 at most */
    enum presence presence;
    bool cold; /* comes back with C_Initialize only */
    W sessions; /* at most; 0: no limit */
    W token_flags; /* set in what C_GetTokenInfo says */
    char keypad[WORD]; /* the PIN that is typed on the token; none: it has no keypad */
    bool one_at_a_time; /* C_Sign, C_SignFinal */
    bool labels; /* some rule asks for one */
    size_t count;
    struct rule rule[RULES];
};

extern const char *const function_names[FUNCTIONS];

/* Reads the text; on a line that it does not understand it says so on stderr and gives false. */
bool rules_read(struct rules *into, char *text);

/* The name of a CKR value, or its number in `buffer`. */
const char *rules_name(W value, char buffer[32]);

#endif
