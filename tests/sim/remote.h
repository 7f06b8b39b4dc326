/* The hosts that mail goes to: SMTP servers with a parser of their own, which take, defer, refuse, fall silent, talk
 * nonsense and hang up at any point. */
#ifndef SIM_REMOTE_H
#define SIM_REMOTE_H

/* Which replies the server never got is told to the oracle. Before a judgement, and at the end of a life. */
void remote_settle(void);

#endif
