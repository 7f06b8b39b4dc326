#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>
#include <glob.h>

#include "transcript/transcript.h"

/* Every .smtp file in tests/transcript/server is one test: the same events and replies however the client's octets are
 * cut. */

#define RANDOM_CUTS 20

static void test_file(void **state)
{
    struct transcript *transcript = transcript_read(*state);
    transcript_replay(transcript, TRANSCRIPT_WHOLE, 0);
    transcript_replay(transcript, TRANSCRIPT_LINES, 0);
    transcript_replay(transcript, TRANSCRIPT_OCTETS, 0);
    for (uint64_t seed = 1; seed <= RANDOM_CUTS; seed++) {
        transcript_replay(transcript, TRANSCRIPT_RANDOM, seed);
    }
    transcript_delete(transcript);
}

int main(int argc, char **argv)
{
    char pattern[4096];
    glob_t files;
    snprintf(pattern, sizeof(pattern), "%s/*.smtp", argc > 1 ? argv[1] : "tests/transcript/server");
    if (glob(pattern, 0, NULL, &files) != 0) {
        fprintf(stderr, "no transcripts at %s\n", pattern);
        return 1;
    }
    struct CMUnitTest *tests = calloc(files.gl_pathc, sizeof(*tests));
    for (size_t i = 0; i < files.gl_pathc; i++) {
        tests[i] = (struct CMUnitTest){
            .name = files.gl_pathv[i], .test_func = test_file, .initial_state = files.gl_pathv[i]};
    }
    int failed = _cmocka_run_group_tests("transcripts", tests, files.gl_pathc, NULL, NULL);
    free(tests);
    globfree(&files);
    return failed;
}
