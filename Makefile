# ringpost. `make help` lists what can be asked for.
#
#   VARIANT=debug          no optimisation              SAN=address,undefined | SAN=thread   sanitizers
#   FUZZ=1                 libFuzzer targets (clang)    CC=gcc | CC=clang                    compiler
#   WOLFSSL=system         the distribution's wolfSSL instead of our build of its source
#   B=dir                  where objects and programs go (build)
#   V=1                    shows the commands           JOBS=n                            how many at once
#   DIRS="base core"       only these folders of src/, for work on a part of a tree that does not build
B ?= build
DEPS ?= build/deps
VARIANT ?= release
WOLFSSL ?= built
DIRS ?= *
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
ifeq ($(origin CC),default)
CC := gcc
endif
ifneq ($(FUZZ),)
CC := clang
SAN := fuzzer,address,undefined
endif
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(or $(JOBS),$(shell nproc))
endif
export PATH := $(abspath $(DEPS))/bin:$(PATH):/usr/sbin:/sbin

Q := $(if $(V),,@)
O := $(B)/$(or $(SAN),$(VARIANT))$(if $(findstring clang,$(CC)),-clang)
BIN := $(O)/ringpost
LIB := $(O)/libringpost.a

# --- flags ------------------------------------------------------------------------------------------------------
WARNINGS := -Wall -Wextra -Werror -Wshadow -Wconversion -Wvla -Wmissing-prototypes -Wstrict-prototypes \
	-Wpointer-arith -Wcast-qual -Wwrite-strings
OPTIMISE_release := -O2 -D_FORTIFY_SOURCE=2
OPTIMISE_debug := -O0
OPTIMISE_san := -O1 -fno-omit-frame-pointer -fsanitize=$(SAN) -fno-sanitize-recover=all
OPTIMISE := $(OPTIMISE_$(if $(SAN),san,$(VARIANT)))

PACKAGES := liburing libcares libmicrohttpd jansson libconfig libidn2 libxxhash libpcre2-8 libseccomp
PACKAGES += $(if $(SAN),,jemalloc) $(if $(filter system,$(WOLFSSL)),wolfssl)
ifneq ($(WOLFSSL),system)
WOLFSSL_LIB := $(DEPS)/wolfssl/lib/libwolfssl.a
WOLFSSL_FLAGS := -isystem $(DEPS)/wolfssl/include
endif
# Asked once, and only when something is compiled: a fresh machine has no pkg-config before `make deps`.
PACKAGE_CFLAGS = $(eval PACKAGE_CFLAGS := $$(shell pkg-config --cflags $(PACKAGES)))$(PACKAGE_CFLAGS)
PACKAGE_LIBS = $(eval PACKAGE_LIBS := $$(shell pkg-config --libs $(PACKAGES)))$(PACKAGE_LIBS)

COMPILE = $(CC) -std=gnu17 -D_GNU_SOURCE -Isrc -Iinclude $(WARNINGS) -g -U_FORTIFY_SOURCE $(OPTIMISE) -fPIE -fstack-protector-strong \
	-MMD -MP $(WOLFSSL_FLAGS) $(PACKAGE_CFLAGS) $(CPPFLAGS) $(CFLAGS)
LINK = $(CC) $(OPTIMISE) -pie -pthread -Wl,-z,relro,-z,now -Wl,--as-needed $(LDFLAGS)
LIBS = $(WOLFSSL_LIB) $(PACKAGE_LIBS) -lm
CMOCKA_FLAGS := -Itests -Wno-missing-prototypes

# --- the program ------------------------------------------------------------------------------------------------
OBJECTS := $(patsubst %.c,$(O)/%.o,$(filter-out src/app/main.c,$(wildcard $(DIRS:%=src/%/*.c))))

.PHONY: all
all: $(if $(FUZZ),fuzz,$(BIN))

$(BIN): $(O)/src/app/main.o $(LIB) $(WOLFSSL_LIB)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $(filter-out $(WOLFSSL_LIB),$^) $(LIBS)

$(LIB): $(OBJECTS) $(O)/objects
	@echo '  AR    $@'
	@rm -f $@
	$(Q)ar rcs $@ $(OBJECTS)

$(O)/%.o: %.c $(O)/flags | $(WOLFSSL_LIB)
	@mkdir -p $(@D)
	@echo '  CC    $<'
	$(Q)$(COMPILE) $(if $(filter tests/%,$<),$(CMOCKA_FLAGS)) -c -o $@ $<

# Each changes when its text does: other flags never leave old objects behind, nor a deleted source its old code.
$(O)/flags: TEXT = $(COMPILE) $(LINK)
$(O)/objects: TEXT = $(OBJECTS)
$(O)/flags $(O)/objects: force
	@mkdir -p $(@D)
	@printf '%s\n' '$(TEXT)' | cmp -s - $@ || printf '%s\n' '$(TEXT)' > $@
.PHONY: force
force:

# The script does nothing when it has built the same before; what uses the library's headers follows it.
$(DEPS)/wolfssl/lib/libwolfssl.a: deploy/deps/wolfssl
	deploy/deps/wolfssl $(DEPS)/wolfssl
	@touch $@
$(filter $(O)/src/core/%,$(OBJECTS)): $(WOLFSSL_LIB)

# --- tests ------------------------------------------------------------------------------------------------------
# tests/unit/**/test_x.c and tests/transcript/test_x.c are one program each; tests/sim/test_x.c as well, with the rest
# of tests/sim standing in front of the archive so that it replaces core/ring, core/clock and more. tests/support is
# linked into all. tests/fuzz/fuzz_x.c reads tests/fuzz/corpus/x: replayed by our main, or by libFuzzer with FUZZ=1.
find = $(sort $(shell find $(1) -name $(2) 2>/dev/null))
program = $(patsubst %.c,$(O)/%,$(1))
UNIT := $(call program,$(call find,$(DIRS:%=tests/unit/%) $(wildcard tests/unit/test_*.c),'test_*.c'))
TRANSCRIPT := $(call program,$(call find,tests/transcript,'test_*.c'))
SIM := $(call program,$(call find,tests/sim,'test_*.c'))
FUZZERS := $(call program,$(call find,tests/fuzz,'fuzz_*.c'))
SUPPORT := $(patsubst %.c,$(O)/%.o,$(wildcard tests/support/*.c))
SIM_OBJECTS := $(patsubst %.c,$(O)/%.o,$(filter-out tests/sim/test_%,$(wildcard tests/sim/*.c)))
TRANSCRIPT_OBJECTS := $(patsubst %.c,$(O)/%.o,$(filter-out tests/transcript/test_%,$(wildcard tests/transcript/*.c)))
REPLAY_OBJECT := $(if $(FUZZ),,$(O)/tests/fuzz/replay_main.o)
# What the server asks of the kernel without its ring, answered by tests/sim.
SIM_WRAPPED := socket bind listen setsockopt getsockopt getpeername getsockname send shutdown close eventfd read write \
	open openat closedir mkdir fsync fdatasync pwritev2 unlinkat renameat getrandom _exit mmap munmap nanosleep \
	malloc calloc realloc reallocarray aligned_alloc free mallctl \
	pthread_create pthread_join pthread_setname_np pthread_cond_wait pthread_cond_timedwait pthread_cond_signal \
	pthread_cond_broadcast boot_run spool_open enqueue_recovered stream_shard_stop

.PHONY: unit transcript fuzz
unit: $(UNIT)
transcript: $(TRANSCRIPT)
# `make fuzz` builds the targets; `make fuzz T=smtp_server SECONDS=600` runs one under libFuzzer, keeps what it finds to be
# new in build/fuzz/smtp_server, and leaves a crash there too.
FOUND = $(B)/fuzz/$(T)
fuzz: $(if $(T),fuzz-run,$(FUZZERS))
.PHONY: fuzz-run
fuzz-run:
	@test -f tests/fuzz/fuzz_$(T).c || { echo 'T is one of: $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))' >&2; exit 2; }
	@$(MAKE) --no-print-directory FUZZ=1 T= fuzz
	@mkdir -p $(FOUND)
	$(shell $(MAKE) -s --no-print-directory FUZZ=1 T= B='$(B)' print-O)/tests/fuzz/fuzz_$(T) -max_total_time=$(or $(SECONDS),60) \
		-timeout=10 -rss_limit_mb=2048 -artifact_prefix=$(FOUND)/ $(FOUND) tests/fuzz/corpus/$(T)
$(TRANSCRIPT): $(TRANSCRIPT_OBJECTS)
$(SIM): $(SIM_OBJECTS)
$(SIM): private LDFLAGS += $(SIM_WRAPPED:%=-Wl,--wrap=%)
$(FUZZERS): $(REPLAY_OBJECT)
$(UNIT) $(TRANSCRIPT) $(SIM) $(FUZZERS): $(O)/%: $(O)/%.o $(SUPPORT) $(LIB) $(WOLFSSL_LIB)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $(sort $(filter %.o,$^)) $(LIB) $(if $(findstring /fuzz/,$@),,-lcmocka) $(LIBS)

# The simulator: `make sim SEEDS=n SEED=s` (TRACE=1 tells everything), `make soak HOURS=h`; docs/simulator.md.
.PHONY: sim soak sim-mutants
sim: $(SIM) ; @SEED=$(SEED) SEEDS=$(or $(SEEDS),$(if $(SEED),1,100)) TRACE=$(TRACE) $(SIM)
soak: $(SIM) ; @HOURS=$(or $(HOURS),8) $(SIM)
sim-mutants: ; @/usr/bin/python3 tests/sim/mutate --build $(B) --deps $(DEPS) $(if $(SEEDS),--seeds $(SEEDS))

# Load generators and the like, of the benchmark and the end-to-end tests: one program per file, nothing of ours in it.
TOOLS := $(call program,$(wildcard bench/*.c))
# These drive the spool or TLS itself, without a server around it.
SPOOL_TOOLS := $(call program,$(wildcard bench/spool/*.c bench/tls/*.c))
.PHONY: tools
tools: $(TOOLS) $(SPOOL_TOOLS)
$(TOOLS): $(O)/%: $(O)/%.o
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $^ -luring $(if $(filter %_tls,$@),-lssl -lcrypto)
$(SPOOL_TOOLS): $(O)/%: $(O)/%.o $(LIB) $(WOLFSSL_LIB)
	@echo '  LINK  $@'
	$(Q)$(LINK) -o $@ $(filter %.o,$^) $(LIB) $(LIBS)

# Which programs a variable holds, for tests/run: `make print-UNIT`.
print-%: ; @echo $($*)

# Every check of the project; the last line is `N passed, N failed`. Parts: test-tidy test-unit test-e2e.
.PHONY: test test-unit test-e2e test-tidy tidy format
TEST_NEEDS = { $(MAKE) --no-print-directory deps-test || { echo '0 passed, 1 failed'; exit 1; }; }
RUN_TESTS = /usr/bin/python3 tests/run --build $(B) --make '$(MAKE) $(MAKEOVERRIDES)'
test: ; +@$(TEST_NEEDS) && $(RUN_TESTS)
test-unit test-e2e test-tidy: test-%: ; +@$(TEST_NEEDS) && $(RUN_TESTS) $*

tidy:
	@/usr/bin/python3 tests/tidy/tidy.py

format:
	$(or $(shell command -v clang-format-14),clang-format) -i $(call find,src include tests bench,'*.[ch]')

# --- use --------------------------------------------------------------------------------------------------------
.PHONY: demo bench run
demo: ; @$(MAKE) --no-print-directory deps-demo && $(MAKE) --no-print-directory all tools && bench/demo $(BIN)
bench: ; @$(MAKE) --no-print-directory deps-bench && $(MAKE) --no-print-directory all tools && bench/run $(BIN)
run: all ; $(BIN) serve --config deploy/ringpost-local.conf

# --- what the machine must have ---------------------------------------------------------------------------------
# Installs only what is missing; a second run does nothing.
.PHONY: deps deps-build deps-demo deps-bench deps-test
deps deps-build:
	@WOLFSSL=$(WOLFSSL) deploy/deps/packages build
	@$(if $(WOLFSSL_LIB),test -e $(WOLFSSL_LIB) || deploy/deps/wolfssl $(DEPS)/wolfssl)
deps-demo: deps-build
	@deploy/deps/packages -- python3 openssl libssl-dev
	@deploy/deps/tools $(DEPS) smtp-source smtp-sink
deps-bench: deps-demo
	@deploy/deps/packages -- 'linux-perf|linux-tools-generic|-'
deps-test: deps-demo
	@deploy/deps/packages test
	@deploy/deps/tools $(DEPS) promtool posttls-finger haproxy nginx ngx_mail_module.so testssl

# --- installation -----------------------------------------------------------------------------------------------
# An existing configuration file is never overwritten, nor removed by uninstall.
INSTALL := install -D -m
TO := $(DESTDIR)$(PREFIX)
CONF := $(DESTDIR)$(SYSCONFDIR)/ringpost/ringpost.conf
UNIT_DIR := $(TO)/lib/systemd/system
SYSCTL_DIR := $(TO)/lib/sysctl.d
INSTALLED_HEADERS := $(wildcard include/ringpost/*.h)
INSTALLED_DOCS := README.md LICENSE $(wildcard docs/*.md)
.PHONY: install uninstall
install: all
	$(INSTALL) 755 $(BIN) $(TO)/sbin/ringpost
	for f in $(INSTALLED_HEADERS); do $(INSTALL) 644 $$f $(TO)/$$f || exit; done
	for f in $(INSTALLED_DOCS); do $(INSTALL) 644 $$f $(TO)/share/doc/ringpost/$${f##*/} || exit; done
	for f in $(wildcard deploy/*.sysctl.conf); do $(INSTALL) 644 $$f $(SYSCTL_DIR)/60-ringpost.conf || exit; done
	$(INSTALL) 644 deploy/ringpost.sysusers.conf $(TO)/lib/sysusers.d/ringpost.conf
	$(INSTALL) 644 deploy/ringpost.tmpfiles.conf $(TO)/lib/tmpfiles.d/ringpost.conf
	sed 's,/usr/local/sbin/,$(PREFIX)/sbin/,' deploy/ringpost.service > $(O)/ringpost.service
	$(INSTALL) 644 $(O)/ringpost.service $(UNIT_DIR)/ringpost.service
	test -e $(CONF) || $(INSTALL) 644 deploy/ringpost.conf $(CONF)

uninstall:
	rm -f $(TO)/sbin/ringpost $(UNIT_DIR)/ringpost.service $(SYSCTL_DIR)/60-ringpost.conf
	rm -f $(TO)/lib/sysusers.d/ringpost.conf $(TO)/lib/tmpfiles.d/ringpost.conf
	rm -rf $(TO)/include/ringpost $(TO)/share/doc/ringpost

.PHONY: clean help
clean:
	rm -rf $(B)/release* $(B)/debug* $(B)/address* $(B)/thread* $(B)/fuzzer*
help:
	@echo 'make [all]   build $(BIN)        make deps      install what the build needs'
	@echo 'make demo    show it at work     make test      every check'
	@echo 'make run     run it locally      make bench     measure it'
	@echo 'make tidy    look at the style   make format    rewrite to the style'
	@echo 'make install / uninstall         PREFIX=/usr/local DESTDIR='

-include $(OBJECTS:.o=.d) $(call find,$(O)/tests $(O)/bench,'*.d') $(O)/src/app/main.d
