#include "support/tls_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char directory[64];

/* $1 is where. */
static const char script[] =
    "set -e; cd \"$1\"\n"
    "exec 2>openssl.log\n"
    "key() { case $2 in\n"
    "    rsa) openssl genrsa -out $1.key 2048 ;;\n"
    "    *) openssl ecparam -genkey -noout -name $2 -out $1.key ;;\n"
    "    esac; }\n"
    "ca='basicConstraints=critical,CA:TRUE\\nkeyUsage=critical,keyCertSign'\n"
    "root() { key $1 prime256v1; openssl req -x509 -new -key $1.key -subj \"/CN=$1\" -days 30 -out $1.pem; }\n"
    "issue() { # name, kind of key, issuer, subject, extensions, [dates]\n"
    "    key $1 $2; openssl req -new -key $1.key -subj \"$4\" -out $1.csr; printf \"$5\\n\" >$1.ext\n"
    "    openssl x509 -req -in $1.csr -CA $3.pem -CAkey $3.key -CAcreateserial -extfile $1.ext ${6:--days 30} \\\n"
    "        -out $1.pem; }\n"
    "root authority; root stranger\n"
    "mx='subjectAltName=DNS:mx.example.org,DNS:mail.example.org'\n"
    "issue middle prime256v1 authority /CN=middle \"$ca\"\n"
    "issue ecdsa prime256v1 middle /O=Example/CN=mx.example.org \"$mx\"; cat middle.pem >>ecdsa.pem\n"
    "issue rsa rsa authority /CN=mx.example.org \"$mx\"\n"
    "issue ecdsa384 secp384r1 authority /CN=mx.example.org \"$mx\"\n"
    "issue other prime256v1 authority /CN=other 'subjectAltName=DNS:*.other.example'\n"
    "issue unknown prime256v1 stranger /CN=mx.example.org \"$mx\"\n"
    "expired() { issue expired prime256v1 authority /CN=mx.example.org \"$mx\" \"$1\"; }\n"
    "expired '-days -1' || expired '-not_before 20200101000000Z -not_after 20200102000000Z' # from OpenSSL 3.4 on\n"
    "issue client prime256v1 authority /CN=Bob 'subjectAltName=email:bob@example.org'\n"
    "issue client_unknown prime256v1 stranger /CN=Bob 'subjectAltName=email:bob@example.org'\n";

static void remove_directory(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    if (system(command) != 0) {
        perror(directory);
    }
}

static void make(void)
{
    char path[] = "/tmp/ringpost-tls-XXXXXX";
    char command[sizeof script + 128];
    if (mkdtemp(path) == NULL) {
        perror(path);
        abort();
    }
    snprintf(directory, sizeof directory, "%s", path);
    atexit(remove_directory);
    snprintf(command, sizeof command, "set -- '%s'\n%s", directory, script);
    if (system(command) != 0) {
        fprintf(stderr, "openssl could not make certificates, see %s/openssl.log\n", directory);
        abort();
    }
}

const char *tls_files_path(const char *name)
{
    static char paths[64][128];
    static unsigned next;
    if (directory[0] == '\0') {
        make();
    }
    char *path = paths[next++ % 64];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
}
