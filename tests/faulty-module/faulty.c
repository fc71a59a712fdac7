/* A PKCS #11 module that wraps another one and does to its caller what tokens do in the field.
 *
 * Every function comes through `call`, as an array of words: rules decide under the lock, nothing is waited
 * for under it. Calls into the wrapped module hold `inside` for reading; what must have it to itself (ending
 * sessions that other threads may be signing with) holds it for writing. */
#define _GNU_SOURCE
#include "rules.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
    OK = 0,
    SLOT_ID_INVALID = 0x03,
    GENERAL_ERROR = 0x05,
    FUNCTION_FAILED = 0x06,
    ARGUMENTS_BAD = 0x07,
    ATTRIBUTE_TYPE_INVALID = 0x12,
    DEVICE_ERROR = 0x30,
    DEVICE_REMOVED = 0x32,
    FUNCTION_NOT_SUPPORTED = 0x54,
    OBJECT_HANDLE_INVALID = 0x82,
    KEY_HANDLE_INVALID = 0x60,
    SESSION_COUNT = 0xB1,
    SESSION_HANDLE_INVALID = 0xB3,
    TOKEN_NOT_PRESENT = 0xE0,
    BUFFER_TOO_SMALL = 0x150,
    A_LABEL = 0x03,
    A_ID = 0x102,
    SLOT_HAS_TOKEN = 1,
    PROTECTED_AUTHENTICATION_PATH = 0x100,
    SESSIONS = 1024,
    LONGEST = 8192, /* octets of a signature that is kept for `stale` */
};

/* As in the standard, where Unix packs nothing. */
struct version { unsigned char major, minor; };
struct list { struct version version; void *function[FUNCTIONS]; };
struct interface { const char *name; struct list *list; W flags; };
struct attribute { W type; void *value; W length; };
struct token_info { char text[96]; W flags; W counts[10]; struct version hardware, firmware; char time[16]; };
struct slot_info { char text[96]; W flags; struct version hardware, firmware; };

enum function {
#define F(name, arguments, kinds) name##_n,
#include "functions.h"
#undef F
};

static const struct { int arguments; const char *kinds; } shape[FUNCTIONS] = {
#define F(name, arguments, kinds) {arguments, kinds},
#include "functions.h"
#undef F
};

struct session {
    bool open;
    W handle, slot;
    char label[WORD]; /* of the key it signs with */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t turn = PTHREAD_MUTEX_INITIALIZER; /* one-at-a-time */
static pthread_rwlock_t inside = PTHREAD_RWLOCK_INITIALIZER;

static char path[4096], ledger[4200];
static struct stat as_read;
static struct rules rules;
static void *wrapped[FUNCTIONS];
static int has_version; /* of the wrapped module: 240, 300, 320 */
static struct session sessions[SESSIONS];
static W generation; /* of object handles */
static bool disconnected, away, cold;
static enum presence gone_as; /* while away: how it went */
static unsigned char last[LONGEST];
static W last_length;

/* ---- the rules file and its ledger ---- */

static void note(const char *what, const char *id, const char *function) {
    char line[512];
    int length = snprintf(line, sizeof line, "%s %s %ld %s\n", what, id, (long)getpid(), function);
    int file = open(ledger, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (file < 0)
        return;
    if (write(file, line, (size_t)length) != length)
        fprintf(stderr, "faulty module: the ledger was not written\n");
    close(file);
}

/* How often the rules with an id have fired, in whatever process. */
static void count_fired(void) {
    for (size_t n = 0; n < rules.count; n++)
        rules.rule[n].fired = 0;
    FILE *file = fopen(ledger, "re");
    char line[512], id[WORD];
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, "fired %127s", id) == 1)
            for (size_t n = 0; n < rules.count; n++)
                rules.rule[n].fired += strcmp(rules.rule[n].id, id) == 0;
    if (file)
        fclose(file);
}

/* Reads the rules again if the file is not the one that was read. Under the lock. */
static void refresh(void) {
    struct stat is;
    if (stat(path, &is) != 0)
        memset(&is, 0, sizeof is);
    if (is.st_ino == as_read.st_ino && is.st_size == as_read.st_size &&
        is.st_mtim.tv_sec == as_read.st_mtim.tv_sec && is.st_mtim.tv_nsec == as_read.st_mtim.tv_nsec)
        return;
    as_read = is;
    static char text[1 << 16];
    size_t length = 0;
    FILE *file = fopen(path, "re");
    if (file) {
        length = fread(text, 1, sizeof text - 1, file);
        fclose(file);
    }
    text[length] = 0;
    static struct rules fresh;
    if (!rules_read(&fresh, text)) {
        /* A test that misspells a rule must not pass. */
        note("misread", "-", path);
        abort();
    }
    rules = fresh;
    count_fired();
}

static void find_wrapped(void *module) {
    W (*interface)(const char *, void *, struct interface **, W) = dlsym(module, "C_GetInterface");
    W (*functions)(struct list **) = dlsym(module, "C_GetFunctionList");
    struct interface *best = NULL;
    struct list *list = NULL;
    if (interface && interface("PKCS 11", NULL, &best, 0) == OK && best)
        list = best->list;
    else if (!functions || functions(&list) != OK)
        list = NULL;
    if (!list) {
        fprintf(stderr, "faulty module: what it wraps is no PKCS #11 module\n");
        abort();
    }
    has_version = list->version.major < 3 ? 240 : list->version.minor < 2 ? 300 : 320;
    int count = has_version == 240 ? IN_2_40 : has_version == 300 ? IN_3_0 : FUNCTIONS;
    memcpy(wrapped, list->function, (size_t)count * sizeof(void *));
}

__attribute__((constructor)) static void begin(void) {
    const char *given = getenv("FAULTY_RULES");
    Dl_info here;
    if (given)
        snprintf(path, sizeof path, "%s", given);
    else if (dladdr((void *)begin, &here))
        snprintf(path, sizeof path, "%s.rules", here.dli_fname);
    snprintf(ledger, sizeof ledger, "%s.ledger", path);
    refresh();
    const char *module = rules.module[0] ? rules.module : getenv("FAULTY_MODULE");
    void *library = module ? dlopen(module, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!library) {
        fprintf(stderr, "faulty module: nothing to wrap: %s\n",
                module ? dlerror() : "neither FAULTY_MODULE nor a `module` line");
        abort();
    }
    find_wrapped(library);
}

/* ---- the wrapped module ---- */

static W pass(int f, W *a) {
    void *to = wrapped[f];
    if (!to)
        return FUNCTION_NOT_SUPPORTED;
    /* Every argument is a word in a register or on the stack, so the count is all that matters. */
    switch (shape[f].arguments) {
    case 1: return ((W(*)(W))to)(a[0]);
    case 2: return ((W(*)(W, W))to)(a[0], a[1]);
    case 3: return ((W(*)(W, W, W))to)(a[0], a[1], a[2]);
    case 4: return ((W(*)(W, W, W, W))to)(a[0], a[1], a[2], a[3]);
    case 5: return ((W(*)(W, W, W, W, W))to)(a[0], a[1], a[2], a[3], a[4]);
    case 6: return ((W(*)(W, W, W, W, W, W))to)(a[0], a[1], a[2], a[3], a[4], a[5]);
    case 7: return ((W(*)(W, W, W, W, W, W, W))to)(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
    case 8: return ((W(*)(W, W, W, W, W, W, W, W))to)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7]);
    default:
        return ((W(*)(W, W, W, W, W, W, W, W, W))to)(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7],
                                                      a[8]);
    }
}

/* Object handles carry the generation in their upper half. */
static W outer(W handle) { return handle ? handle | generation << 32 : 0; }
static W inner(W handle) { return handle & 0xffffffff; }

static struct session *session_of(W handle) {
    for (int n = 0; n < SESSIONS; n++)
        if (sessions[n].open && sessions[n].handle == handle)
            return &sessions[n];
    return NULL;
}

static W open_sessions(void) {
    W count = 0;
    for (int n = 0; n < SESSIONS; n++)
        count += sessions[n].open;
    return count;
}

/* Ends one session, or all with `handle` 0: they are closed in the wrapped module, whoever uses them. */
static void end_sessions(W handle) {
    pthread_rwlock_wrlock(&inside);
    pthread_mutex_lock(&lock);
    for (int n = 0; n < SESSIONS; n++)
        if (sessions[n].open && (handle == 0 || sessions[n].handle == handle)) {
            W one[] = {sessions[n].handle};
            pass(C_CloseSession_n, one);
            sessions[n].open = false;
        }
    pthread_mutex_unlock(&lock);
    pthread_rwlock_unlock(&inside);
}

static void label_of(W session, W object, char into[WORD]) {
    struct attribute label = {A_LABEL, into, WORD - 1};
    W a[] = {session, inner(object), (W)&label, 1};
    pthread_rwlock_rdlock(&inside);
    W rv = pass(C_GetAttributeValue_n, a);
    pthread_rwlock_unlock(&inside);
    into[rv == OK && label.length < WORD ? label.length : 0] = 0;
}

/* ---- what a call meets ---- */

static bool signs(int f) { return f == C_Sign_n || f == C_SignFinal_n; }

/* A call that only asks how long the signature will be. */
static bool asks_length(int f, const W *a) {
    return (f == C_Sign_n && a[3] == 0) || (f == C_SignFinal_n && a[1] == 0);
}

static void wait_ms(W ms) {
    struct timespec time = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    while (nanosleep(&time, &time) != 0)
        ;
}

static bool fires(struct rule *rule, int f, const char *label) {
    if (!rule->on[f] || (rule->label[0] && strcmp(rule->label, label) != 0))
        return false;
    if (rule->times && rule->fired >= rule->times)
        return false;
    rule->seen++;
    if (rule->seen <= rule->skip || (rule->every && (rule->seen - rule->skip) % rule->every != 0))
        return false;
    if (rule->of) {
        rule->seed = rule->seed * 6364136223846793005ULL + 1442695040888963407ULL;
        if ((rule->seed >> 33) % rule->of >= rule->chance)
            return false;
    }
    rule->fired++;
    if (rule->id[0])
        note("fired", rule->id, function_names[f]);
    return true;
}

/* Whether an object handle is of another generation. Under the lock. */
static W stale_handle(int f, const W *a) {
    for (int n = 0; n < shape[f].arguments; n++)
        if (shape[f].kinds[n] == 'o' && a[n] && a[n] >> 32 != generation)
            return f == C_GetAttributeValue_n || f == C_DestroyObject_n ? OBJECT_HANDLE_INVALID
                                                                        : KEY_HANDLE_INVALID;
    return OK;
}

/* What the state of things answers before any rule is asked. Under the lock. */
static W standing(int f, const W *a) {
    bool general = f <= C_GetFunctionList_n || f == C_GetInterface_n || f == C_GetInterfaceList_n;
    if (general || f == C_GetSlotList_n)
        return OK;
    bool of_slot = strchr(shape[f].kinds, 't') != NULL;
    if (away && of_slot) {
        if (f == C_GetSlotInfo_n && gone_as != SLOTLESS)
            return OK;
        return gone_as == SLOTLESS ? SLOT_ID_INVALID : TOKEN_NOT_PRESENT;
    }
    if (away && shape[f].kinds[0] == 's')
        return DEVICE_REMOVED;
    if (disconnected && (shape[f].kinds[0] == 's' || f == C_OpenSession_n))
        return DEVICE_ERROR;
    if (f == C_OpenSession_n && rules.sessions && open_sessions() >= rules.sessions) {
        note("fired", "sessions", function_names[f]);
        return SESSION_COUNT;
    }
    if (shape[f].kinds[0] == 's' && !session_of(a[0]))
        return SESSION_HANDLE_INVALID;
    return stale_handle(f, a);
}

/* What was found out before the wrapped module is called, and is done after. */
struct plan {
    W sleep, hang;
    bool hangs;
    W lose; /* 0: nothing is lost */
    bool flip, zero, shorten, stale;
    const struct rule *attribute[8];
    struct rule copies[8];
    int attributes;
};

/* Asks the rules; the value to return at once, or OK to go on. Leaves the lock for what needs it open. */
static W meet(int f, W *a, const char *label, struct plan *plan) {
    W answer = OK;
    bool end_this = false, end_all = false, logout = false;
    enum action crash = DO_RETURN;
    pthread_mutex_lock(&lock);
    for (size_t n = 0; n < rules.count && answer == OK; n++) {
        struct rule *rule = &rules.rule[n];
        if (!fires(rule, f, label))
            continue;
        switch (rule->action) {
        case DO_RETURN: answer = rule->number; break;
        case DO_LOSE: plan->lose = rule->number; break;
        case DO_SLEEP: plan->sleep += rule->number; break;
        case DO_HANG: plan->hangs = true; plan->hang = rule->number; break;
        case DO_ABORT:
        case DO_SEGFAULT:
        case DO_EXIT: crash = rule->action; break;
        case DO_FLIP: plan->flip = true; break;
        case DO_ZERO: plan->zero = true; break;
        case DO_SHORT: plan->shorten = true; break;
        case DO_STALE: plan->stale = true; break;
        case DO_END_SESSION: end_this = true; answer = SESSION_HANDLE_INVALID; break;
        case DO_END_SESSIONS: end_all = true; answer = SESSION_HANDLE_INVALID; break;
        case DO_DISCONNECT: end_all = disconnected = true; answer = DEVICE_ERROR; break;
        case DO_LOGOUT: logout = true; break;
        case DO_HANDLES:
            generation++;
            answer = stale_handle(f, a);
            break;
        case DO_ID:
        case DO_ATTRIBUTE:
            if (plan->attributes < 8) {
                plan->copies[plan->attributes] = *rule;
                plan->attribute[plan->attributes] = &plan->copies[plan->attributes];
                plan->attributes++;
            }
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    if (crash == DO_ABORT)
        abort();
    if (crash == DO_SEGFAULT)
        *(volatile int *)8 = 0;
    if (crash == DO_EXIT)
        _exit(1);
    if (end_this)
        end_sessions(a[0]);
    if (end_all)
        end_sessions(0);
    if (logout) {
        pthread_rwlock_wrlock(&inside);
        W one[] = {a[0]};
        pass(C_Logout_n, one);
        pthread_rwlock_unlock(&inside);
    }
    return answer;
}

/* ---- what comes back is changed ---- */

static void spoil(const struct plan *plan, unsigned char *signature, W *length) {
    if (*length == 0 || *length > LONGEST)
        return;
    unsigned char good[LONGEST];
    W good_length = *length;
    memcpy(good, signature, good_length);
    if (plan->stale && last_length == *length)
        memcpy(signature, last, last_length);
    else if (plan->flip || plan->stale)
        signature[*length / 2] ^= 0x10;
    if (plan->zero)
        memset(signature, 0, *length);
    if (plan->shorten)
        --*length;
    memcpy(last, good, good_length);
    last_length = good_length;
}

/* Rewrites what attributes read. A caller first asks for lengths, then for values. */
static W rewrite(const struct rule *rule, struct attribute *list, W count, W rv) {
    for (W n = 0; n < count; n++) {
        if (list[n].type != rule->number)
            continue;
        if (rule->hidden) {
            list[n].length = (W)-1;
            return ATTRIBUTE_TYPE_INVALID;
        }
        if (list[n].value && list[n].length < rule->length)
            return BUFFER_TOO_SMALL;
        if (list[n].value)
            memcpy(list[n].value, rule->octets, rule->length);
        list[n].length = rule->length;
    }
    return rv;
}

static void keep_session(int f, W *a) {
    if (f == C_OpenSession_n) {
        W handle = *(W *)a[4];
        struct session *old = session_of(handle);
        for (int n = 0; !old && n < SESSIONS; n++)
            if (!sessions[n].open)
                old = &sessions[n];
        if (old)
            *old = (struct session){.open = true, .handle = handle, .slot = a[0]};
    } else if (f == C_CloseSession_n) {
        struct session *gone = session_of(a[0]);
        if (gone)
            gone->open = false;
    } else if (f == C_CloseAllSessions_n || f == C_Finalize_n) {
        for (int n = 0; n < SESSIONS; n++)
            if (f == C_Finalize_n || sessions[n].slot == a[0])
                sessions[n].open = false;
    } else if (f == C_Initialize_n) {
        disconnected = cold = false;
        away = rules.presence != PRESENT;
    }
}

static void after(int f, W *a, const struct plan *plan, W *rv) {
    if (signs(f) && *rv == OK) {
        if (f == C_Sign_n)
            spoil(plan, (unsigned char *)a[3], (W *)a[4]);
        else
            spoil(plan, (unsigned char *)a[1], (W *)a[2]);
    }
    if (*rv == OK)
        keep_session(f, a);
    if (f == C_GetSlotList_n && *rv == OK && away && gone_as != LISTED &&
        ((a[0] & 0xff) || gone_as == SLOTLESS))
        *(W *)a[2] = 0;
    if (f == C_GetSlotInfo_n && *rv == OK && away)
        ((struct slot_info *)a[1])->flags &= ~(W)SLOT_HAS_TOKEN;
    if (f == C_GetTokenInfo_n && *rv == OK && rules.token_flags) {
        ((struct token_info *)a[1])->flags |= rules.token_flags;
        note("fired", "token-flags", function_names[f]);
    }
    if (f == C_GetTokenInfo_n && *rv == OK && rules.keypad[0])
        ((struct token_info *)a[1])->flags |= PROTECTED_AUTHENTICATION_PATH;
    if (f == C_FindObjects_n && *rv == OK)
        for (W n = 0; n < *(W *)a[3]; n++)
            ((W *)a[1])[n] = outer(((W *)a[1])[n]);
    for (int n = 0; n < shape[f].arguments; n++)
        if (shape[f].kinds[n] == 'O' && *rv == OK && a[n])
            *(W *)a[n] = outer(*(W *)a[n]);
    if (f == C_GetAttributeValue_n)
        for (int n = 0; n < plan->attributes; n++)
            if (plan->attribute[n]->action == DO_ATTRIBUTE)
                *rv = rewrite(plan->attribute[n], (struct attribute *)a[2], a[3], *rv);
    if (f == C_Login_n) {
        char buffer[32];
        note("login", rules_name(*rv, buffer), function_names[f]);
    }
}

/* The search for one CKA_ID becomes the search for another. */
static void search_other(const struct plan *plan, W *a, struct attribute copy[16]) {
    if (plan->attributes == 0 || a[2] > 16)
        return;
    memcpy(copy, (void *)a[1], a[2] * sizeof *copy);
    a[1] = (W)copy;
    for (W n = 0; n < a[2]; n++)
        for (int r = 0; r < plan->attributes; r++) {
            const struct rule *rule = plan->attribute[r];
            if (rule->action == DO_ID && copy[n].type == A_ID && copy[n].length == rule->length &&
                memcmp(copy[n].value, rule->octets, rule->length) == 0) {
                copy[n].value = (void *)rule->other;
                copy[n].length = rule->other_length;
            }
        }
}

static W call(int f, W *a) {
    struct plan plan = {0};
    char label[WORD] = "";
    bool was_there, labels, takes_turns;
    W object = 0;
    for (int n = 0; n < shape[f].arguments && !object; n++)
        if (shape[f].kinds[n] == 'o')
            object = a[n];

    pthread_mutex_lock(&lock);
    refresh();
    was_there = !away;
    if (rules.presence != PRESENT) {
        away = true;
        cold = rules.cold;
        gone_as = rules.presence;
    } else if (!cold) {
        away = false;
    }
    labels = rules.labels;
    takes_turns = rules.one_at_a_time && signs(f) && !asks_length(f, a);
    bool left = was_there && away;
    if (left)
        note("fired", "absent", function_names[f]);
    pthread_mutex_unlock(&lock);
    if (left)
        end_sessions(0);

    pthread_mutex_lock(&lock);
    W rv = standing(f, a);
    struct session *session = shape[f].kinds[0] == 's' ? session_of(a[0]) : NULL;
    if (session)
        memcpy(label, session->label, WORD);
    pthread_mutex_unlock(&lock);
    if (rv == OK && labels && object) {
        label_of(a[0], object, label);
        pthread_mutex_lock(&lock);
        if (f == C_SignInit_n && (session = session_of(a[0])))
            memcpy(session->label, label, WORD);
        pthread_mutex_unlock(&lock);
    }
    if (rv == OK && !asks_length(f, a))
        rv = meet(f, a, label, &plan);
    char typed[WORD] = "";
    if (f == C_Login_n) {
        pthread_mutex_lock(&lock);
        memcpy(typed, rules.keypad, WORD);
        pthread_mutex_unlock(&lock);
    }
    if (rv == OK && typed[0]) {
        /* Whoever hands a PIN over did not see the keypad. */
        if (a[2])
            rv = ARGUMENTS_BAD;
        a[2] = (W)typed;
        a[3] = strlen(typed);
    }
    if (takes_turns)
        pthread_mutex_lock(&turn);
    if (plan.sleep)
        wait_ms(plan.sleep);
    while (plan.hangs && plan.hang == 0)
        pause();
    if (plan.hangs)
        wait_ms(plan.hang);
    if (rv == OK) {
        struct attribute copy[16];
        for (int n = 0; n < shape[f].arguments; n++)
            if (shape[f].kinds[n] == 'o')
                a[n] = inner(a[n]);
        if (f == C_FindObjectsInit_n)
            search_other(&plan, a, copy);
        pthread_rwlock_rdlock(&inside);
        rv = pass(f, a);
        pthread_rwlock_unlock(&inside);
        if (!asks_length(f, a)) {
            pthread_mutex_lock(&lock);
            after(f, a, &plan, &rv);
            pthread_mutex_unlock(&lock);
        }
        if (plan.lose)
            rv = plan.lose;
    } else if (f == C_Login_n) {
        char buffer[32];
        note("login", rules_name(rv, buffer), function_names[f]);
    }
    if (takes_turns)
        pthread_mutex_unlock(&turn);
    return rv;
}

/* ---- the functions themselves ---- */

#define P1 W x0
#define P2 P1, W x1
#define P3 P2, W x2
#define P4 P3, W x3
#define P5 P4, W x4
#define P6 P5, W x5
#define P7 P6, W x6
#define P8 P7, W x7
#define P9 P8, W x8
#define A1 x0
#define A2 A1, x1
#define A3 A2, x2
#define A4 A3, x3
#define A5 A4, x4
#define A6 A5, x5
#define A7 A6, x6
#define A8 A7, x7
#define A9 A8, x8
#define F(name, arguments, kinds)                                                                  \
    static W do_##name(P##arguments) {                                                             \
        W a[] = {A##arguments};                                                                    \
        return call(name##_n, a);                                                                  \
    }
#include "functions.h"
#undef F

EXPORT W C_GetFunctionList(struct list **into);
EXPORT W C_GetInterface(const char *name, const struct version *version, struct interface **into, W flags);
EXPORT W C_GetInterfaceList(struct interface *into, W *count);

static void *const all[FUNCTIONS] = {
#define F(name, arguments, kinds) (void *)do_##name,
#include "functions.h"
#undef F
};
static struct list lists[3] = {{{2, 40}, {0}}, {{3, 0}, {0}}, {{3, 2}, {0}}};
static struct interface interfaces[3] = {
    {"PKCS 11", &lists[0], 0}, {"PKCS 11", &lists[1], 0}, {"PKCS 11", &lists[2], 0}};

/* How many of the three are offered: what the wrapped module has, unless the rules want less. */
static int offered(void) {
    int version = rules.interface && rules.interface < has_version ? rules.interface : has_version;
    for (int n = 0; n < 3; n++) {
        memcpy(lists[n].function, all, sizeof all);
        lists[n].function[C_GetFunctionList_n] = (void *)C_GetFunctionList;
        lists[n].function[C_GetInterface_n] = (void *)C_GetInterface;
        lists[n].function[C_GetInterfaceList_n] = (void *)C_GetInterfaceList;
        for (int f = 0; f < FUNCTIONS; f++)
            if (!wrapped[f] && f != C_GetInterface_n && f != C_GetInterfaceList_n)
                lists[n].function[f] = NULL;
    }
    return version == 240 ? 1 : version == 300 ? 2 : 3;
}

EXPORT W C_GetFunctionList(struct list **into) {
    if (!into)
        return ARGUMENTS_BAD;
    offered();
    *into = &lists[0];
    return OK;
}

EXPORT W C_GetInterfaceList(struct interface *into, W *count) {
    W has = (W)offered();
    if (!count)
        return ARGUMENTS_BAD;
    if (into && *count < has) {
        *count = has;
        return BUFFER_TOO_SMALL;
    }
    if (into)
        memcpy(into, interfaces, has * sizeof *into);
    *count = has;
    return OK;
}

EXPORT W C_GetInterface(const char *name, const struct version *version, struct interface **into, W flags) {
    if (!into)
        return ARGUMENTS_BAD;
    int has = offered();
    if (flags || (name && strcmp(name, "PKCS 11") != 0))
        return FUNCTION_FAILED;
    for (int n = has - 1; n >= 0; n--)
        if (!version || memcmp(version, &lists[n].version, sizeof *version) == 0) {
            *into = &interfaces[n];
            return OK;
        }
    return FUNCTION_FAILED;
}
