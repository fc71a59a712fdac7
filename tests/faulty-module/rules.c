/* Reads a rules file, a line at a time. */
#include "rules.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const function_names[FUNCTIONS] = {
#define F(name, arguments, kinds) #name,
#include "functions.h"
#undef F
};

static const struct {
    const char *name;
    W value;
} numbers[] = {
#define N(name, value) {#name, value},
#include "names.h"
#undef N
};

static const struct {
    const char *name;
    enum action action;
} actions[] = {
    {"return", DO_RETURN},         {"lose", DO_LOSE},
    {"sleep", DO_SLEEP},           {"hang", DO_HANG},
    {"abort", DO_ABORT},           {"segfault", DO_SEGFAULT},
    {"exit", DO_EXIT},             {"flip", DO_FLIP},
    {"zero", DO_ZERO},             {"short", DO_SHORT},
    {"stale", DO_STALE},           {"end-session", DO_END_SESSION},
    {"end-sessions", DO_END_SESSIONS}, {"disconnect", DO_DISCONNECT},
    {"logout", DO_LOGOUT},         {"handles", DO_HANDLES},
    {"id", DO_ID},                 {"attribute", DO_ATTRIBUTE},
};

const char *rules_name(W value, char buffer[32]) {
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++)
        if (numbers[n].value == value && strncmp(numbers[n].name, "CKR_", 4) == 0)
            return numbers[n].name;
    snprintf(buffer, 32, "0x%lx", value);
    return buffer;
}

static bool number(const char *word, W *into) {
    if (word == NULL)
        return false;
    for (size_t n = 0; n < sizeof numbers / sizeof *numbers; n++)
        if (strcmp(numbers[n].name, word) == 0) {
            *into = numbers[n].value;
            return true;
        }
    char *end;
    errno = 0;
    *into = strtoul(word, &end, 0);
    return errno == 0 && *word != 0 && *end == 0;
}

static bool octets(const char *word, unsigned char *into, size_t *length) {
    if (word == NULL || strlen(word) % 2 != 0 || strlen(word) > 2 * OCTETS)
        return false;
    *length = strlen(word) / 2;
    for (size_t n = 0; n < *length; n++)
        if (sscanf(word + 2 * n, "%2hhx", &into[n]) != 1)
            return false;
    return true;
}

static bool functions(char *list, struct rule *rule) {
    char *rest = NULL;
    for (char *name = strtok_r(list, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        bool known = false;
        for (int f = 0; f < FUNCTIONS; f++)
            if (strcmp(name, "*") == 0 || strcmp(name, function_names[f]) == 0)
                known = rule->on[f] = true;
        if (!known)
            return false;
    }
    return true;
}

static bool action(struct rule *rule, const char *word, char **rest) {
    for (size_t n = 0; n < sizeof actions / sizeof *actions; n++) {
        if (strcmp(actions[n].name, word) != 0)
            continue;
        rule->action = actions[n].action;
        char *first = strtok_r(NULL, " \t", rest);
        switch (rule->action) {
        case DO_RETURN:
        case DO_LOSE:
        case DO_SLEEP:
            return number(first, &rule->number);
        case DO_HANG:
            return first == NULL || number(first, &rule->number);
        case DO_ID:
            return octets(first, rule->octets, &rule->length) &&
                   octets(strtok_r(NULL, " \t", rest), rule->other, &rule->other_length);
        case DO_ATTRIBUTE: {
            char *value = strtok_r(NULL, " \t", rest);
            rule->hidden = value && strcmp(value, "hidden") == 0;
            return number(first, &rule->number) &&
                   (rule->hidden || octets(value, rule->octets, &rule->length));
        }
        default:
            return first == NULL;
        }
    }
    return false;
}

static bool rule_line(struct rules *into, char **rest) {
    if (into->count == RULES)
        return false;
    struct rule *rule = &into->rule[into->count];
    char *list = strtok_r(NULL, " \t", rest);
    if (list == NULL || !functions(list, rule))
        return false;
    for (char *word; (word = strtok_r(NULL, " \t", rest));) {
        char *value = strtok_r(NULL, " \t", rest);
        if (value == NULL)
            return false;
        bool good = true;
        if (strcmp(word, "do") == 0) {
            into->count++;
            return action(rule, value, rest) && strtok_r(NULL, " \t", rest) == NULL;
        } else if (strcmp(word, "id") == 0)
            good = (size_t)snprintf(rule->id, WORD, "%s", value) < WORD;
        else if (strcmp(word, "label") == 0) {
            good = (size_t)snprintf(rule->label, WORD, "%s", value) < WORD;
            into->labels = true;
        } else if (strcmp(word, "skip") == 0)
            good = number(value, &rule->skip);
        else if (strcmp(word, "every") == 0)
            good = number(value, &rule->every);
        else if (strcmp(word, "times") == 0)
            good = number(value, &rule->times) && rule->times > 0;
        else if (strcmp(word, "chance") == 0)
            good = sscanf(value, "%lu/%lu/%llu", &rule->chance, &rule->of, &rule->seed) == 3 &&
                   rule->of > 0;
        else
            good = false;
        if (!good)
            return false;
    }
    return false;
}

static bool line_means(struct rules *into, const char *word, char **rest) {
    if (strcmp(word, "on") == 0)
        return rule_line(into, rest);
    char *value = strtok_r(NULL, " \t", rest);
    char *more = value ? strtok_r(NULL, " \t", rest) : NULL;
    if (strcmp(word, "absent") == 0) {
        into->presence = ABSENT;
        for (; value; value = more, more = more ? strtok_r(NULL, " \t", rest) : NULL) {
            if (strcmp(value, "listed") == 0)
                into->presence = LISTED;
            else if (strcmp(value, "slotless") == 0)
                into->presence = SLOTLESS;
            else if (strcmp(value, "cold") == 0)
                into->cold = true;
            else
                return false;
        }
        return true;
    }
    if (more)
        return false;
    if (strcmp(word, "one-at-a-time") == 0) {
        into->one_at_a_time = true;
        return value == NULL;
    }
    if (value == NULL)
        return false;
    if (strcmp(word, "module") == 0)
        return (size_t)snprintf(into->module, sizeof into->module, "%s", value) <
               sizeof into->module;
    if (strcmp(word, "sessions") == 0)
        return number(value, &into->sessions);
    if (strcmp(word, "token-flags") == 0)
        return number(value, &into->token_flags);
    if (strcmp(word, "keypad") == 0)
        return (size_t)snprintf(into->keypad, sizeof into->keypad, "%s", value) <
               sizeof into->keypad;
    if (strcmp(word, "interface") == 0) {
        into->interface = strcmp(value, "2.40") == 0  ? 240
                          : strcmp(value, "3.0") == 0 ? 300
                          : strcmp(value, "3.2") == 0 ? 320
                                                      : 0;
        return into->interface != 0;
    }
    return false;
}

bool rules_read(struct rules *into, char *text) {
    memset(into, 0, sizeof *into);
    char *lines = NULL;
    for (char *line = strtok_r(text, "\n", &lines); line; line = strtok_r(NULL, "\n", &lines)) {
        char whole[256], *rest = NULL;
        snprintf(whole, sizeof whole, "%s", line);
        char *word = strtok_r(line, " \t", &rest);
        if (word == NULL || *word == '#')
            continue;
        if (!line_means(into, word, &rest)) {
            fprintf(stderr, "faulty module: a line of the rules is not understood: %s\n", whole);
            return false;
        }
    }
    return true;
}
