#include "app/passwd_prompt.h"

#include <signal.h>
#include <stdio.h>
#include <termios.h>
#include <unistd.h>

#include "core/crypto.h"

static struct termios shown; /* how the terminal was */
static const int deadly[] = {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGTSTP};

/* Whoever gives up gets his echo back. */
static void give_up(int number)
{
    (void)number;
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    _exit(128 + number);
}

static bool hide(void)
{
    struct termios hidden;
    if (tcgetattr(STDIN_FILENO, &shown) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        signal(deadly[i], give_up);
    }
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)(ECHO | ECHONL);
    return tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden) == 0;
}

static void show(void)
{
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    for (size_t i = 0; i < sizeof deadly / sizeof *deadly; i++) {
        signal(deadly[i], SIG_DFL);
    }
    fputs("\n", stderr);
}

/* Octet by octet: what follows the line stays for others. False when it is longer than the room. */
static bool read_line(char *room, size_t *ret_length)
{
    size_t length = 0;
    char c = 0;
    while (read(STDIN_FILENO, &c, 1) == 1 && c != '\n') {
        if (length == PASSWD_PROMPT_BYTES - 1) {
            return false;
        }
        room[length++] = c;
    }
    *ret_length = length;
    return true;
}

static bool complain(const char *what)
{
    fprintf(stderr, "ringpost passwd: %s\n", what);
    return false;
}

static bool is_usable(struct bytes password)
{
    if (password.length == 0 || password.length > CREDENTIALS_PASSWORD_BYTES_MAX) {
        return complain("a password has 1 to 512 characters");
    }
    for (size_t i = 0; i < password.length; i++) {
        if (password.data[i] < ' ' || password.data[i] > '~') {
            return complain("the password holds something else than printable ASCII; clients would not agree on how to "
                            "send it");
        }
    }
    return true;
}

static bool ask(const char *prompt, const char *name, char *room, struct bytes *ret_password)
{
    bool terminal = isatty(STDIN_FILENO);
    size_t length = 0;
    if (terminal) {
        if (!hide()) { /* drops what was typed before */
            return complain("the terminal cannot be kept from showing the password");
        }
        fprintf(stderr, "%s for %s: ", prompt, name);
    }
    bool fits = read_line(room, &length);
    if (terminal) {
        show();
    }
    *ret_password = bytes_of(room, length);
    return is_usable(fits ? *ret_password : bytes_of(room, PASSWD_PROMPT_BYTES));
}

bool passwd_prompt(const char *name, bool twice, char *room, struct bytes *ret_password)
{
    char again[PASSWD_PROMPT_BYTES];
    struct bytes repeated;
    if (!ask(twice ? "New password" : "Password", name, room, ret_password)) {
        return false;
    }
    if (!twice || !isatty(STDIN_FILENO)) {
        return true;
    }
    bool same = ask("Again", name, again, &repeated) && bytes_equal(repeated, *ret_password);
    crypto_wipe(again, sizeof again);
    return same || complain("the two are not the same");
}
