"""`ringpost check`: every wrong configuration gets its exact error lines, and the files we ship are right."""
import os
import re
import subprocess

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RINGPOST = os.environ.get("RINGPOST", os.path.join(ROOT, "build", "release", "ringpost"))
REFERENCE = os.path.join(ROOT, "deploy", "ringpost.conf")

# (the file, its error lines; the file's name is F in them)
BAD = [
    ("listeners = ( { port = 70000; } );",
     ["F:1: listeners[0].port is 70000, expected 1 to 65535"]),
    ("listeners = ( { port = 0; } );",
     ["F:1: listeners[0].port is 0, expected 1 to 65535"]),
    ("listeners = ( { port = -5; } );",
     ["F:1: listeners[0].port is -5, expected 1 to 65535"]),
    ('listeners = ( { port = "25"; } );',
     ['F:1: listeners[0].port is "25", expected 1 to 65535']),
    ("listeners = ( { port = 25.5; } );",
     ["F:1: listeners[0].port is 25.5, expected 1 to 65535"]),
    ("listeners = ( { port = true; } );",
     ["F:1: listeners[0].port is true, expected 1 to 65535"]),
    ("listeners = ( { port = 99999999999999999999; } );",
     ["F:1: listeners[0].port is -1, expected 1 to 65535"]),
    ("listeners = ( { prot = 25; } );",
     ["F:1: listeners[0].prot is not a known key, expected port"]),
    ("listeners = ( { quite_unlike = 25; } );",
     ["F:1: listeners[0].quite_unlike is not a known key, expected one of name, address, port, socket_mode, "
      "socket_owner, role, protocol, durability, hostname, banner, extensions, tls, tls_required, certificates, "
      "client_certificates, client_authorities, auth, auth_without_tls, proxy, proxy_networks, xclient_networks, "
      "xforward_networks, message_bytes_max, recipients_max, messages_max, text_line_bytes_max, command_bytes_max, "
      "received_max, errors_max, connections_max, connections_per_address_max, hold_max, relay_networks, timeouts, "
      "dns_checks, priorities, rates, greet_pause, error_delay, error_delay_after, milters"]),
    ('listeners = ( { rates = { address = { messages = "lots"; errors = "100/999ms"; }; network = { bytes = 5; }; }; } );',
     ['F:1: listeners[0].rates.address.messages is "lots", expected a number in a time as "100/1m" or "50M/1h", at most 31 '
      'days, or "off"',
      'F:1: listeners[0].rates.address.errors is "100/999ms", expected a number in a time as "100/1m" or "50M/1h", at most 31 '
      'days, or "off"',
      'F:1: listeners[0].rates.network.bytes is 5, expected a number in a time as "100/1m" or "50M/1h", at most 31 days, or '
      '"off"']),
    ('listeners = ( { rates = { account = { connections = "5/1m"; }; }; } );',
     ["F:1: listeners[0].rates.account.connections is not a known key, expected one of messages, recipients, bytes, errors"]),
    ("listner = 5;",
     ["F:1: listner is not a known key, expected listeners"]),
    ("listeners = ( );",
     ["F:1: listeners is empty, expected at least one listener"]),
    ("listeners = { port = 25; };",
     ["F:1: listeners is a group, expected a list ( { ... }, ... )"]),
    ("listeners = ( 25 );",
     ["F:1: listeners[0] is 25, expected a group { ... }"]),
    ('listeners = ( { address = "localhost"; } );',
     ['F:1: listeners[0].address is "localhost", expected an address as "192.0.2.1", "::", "127.0.0.1:25" or "unix:/path"']),
    ('listeners = ( { address = "127.0.0.1:25"; port = 25; } );',
     ["F:1: listeners[0].port is given in address too, expected only one of the two"]),
    ('listeners = ( { address = "127.0.0.1:0"; } );',
     ['F:1: listeners[0].address is "127.0.0.1:0", expected an address as "192.0.2.1", "::", "127.0.0.1:25" or "unix:/path"']),
    ('listeners = ( { address = "[::1"; } );',
     ['F:1: listeners[0].address is "[::1", expected an address as "192.0.2.1", "::", "127.0.0.1:25" or "unix:/path"']),
    ('listeners = ( { address = "127.0.0.1:2525"; },\n { port = 2525; } );',
     ["F:2: listeners[1].address and port are those of listeners[0], expected another address or port"]),
    ('listeners = ( { name = "a"; port = 1; },\n { name = "a"; port = 2; } );',
     ['F:2: listeners[1].name is "a" as that of listeners[0], expected a name of its own']),
    ('listeners = ( { name = "a b"; } );',
     ['F:1: listeners[0].name is "a b", expected a name of 1 to 63 letters, digits and .:[]_-']),
    ('listeners = ( { role = "server"; } );',
     ['F:1: listeners[0].role is "server", expected "relay", "mx" or "submission"']),
    ('listeners = ( { role = "submission"; } );',
     ['F:1: listeners[0].auth has no mechanism, expected at least one for role "submission", and the file of its accounts '
      'in auth.passwords']),
    ('auth = { verifier = "/run/v"; };\nlisteners = ( { role = "submission"; auth_without_tls = true; } );',
     ["F:2: listeners[0].auth needs accounts, expected their file in auth.passwords, also for tokens and certificates"]),
    ('listeners = ( { socket_owner = "a:b"; } );',
     ["F:1: listeners[0].socket_owner is given, expected none unless the address is a unix socket"]),
    ('auth = { passwords = "/p"; };\nlisteners = ( { role = "submission"; } );',
     ["F:2: listeners[0].auth would be in clear text, expected tls, or auth_without_tls on a loopback address"]),
    ('auth = { passwords = "/p"; };\nlisteners = (\n{ role = "submission"; address = "192.0.2.1";\n'
     'auth_without_tls = true; } );',
     ["F:4: listeners[0].auth_without_tls is true, expected false unless the address is a loopback address"]),
    ('listeners = ( { auth = ( "plain" ); auth_without_tls = true; } );',
     ["F:1: listeners[0].auth needs accounts, expected their file in auth.passwords, also for tokens and certificates"]),
    ('auth = { passwords = "/p"; };\nlisteners = ( { auth = ( "xoauth2" );\nauth_without_tls = true; } );',
     ["F:2: listeners[0].auth needs a verifier, expected a socket in auth.verifier"]),
    ('auth = { passwords = "/p"; };\nlisteners = ( { auth = ( "external" );\ntls = "starttls"; certificates = ( { certificate = "/c"; } ); } );',
     ['F:2: listeners[0].auth has external, expected client_certificates "ask" or "require" with it']),
    ('listeners = ( { tls = "starttls"; } );',
     ["F:1: listeners[0].tls needs a certificate, expected certificates here or in the group tls"]),
    ('listeners = ( { tls_required = true; } );',
     ["F:1: listeners[0].tls_required is true without TLS, expected a certificate, or false"]),
    ('tls = { certificates = ( { certificate = "/c"; } ); };\nlisteners = ( { role = "mx"; tls_required = true; } );',
     ['F:2: listeners[0].tls_required is true, expected false for role "mx": anybody may send to it (RFC 3207 4)']),
    ('tls = { certificates = ( { certificate = "/c"; } ); };\nlisteners = ( { client_certificates = "ask"; } );',
     ['F:2: listeners[0].client_authorities is "", expected the file of those who sign the client certificates']),
    ('listeners = ( { client_certificates = "ask"; client_authorities = "/c"; } );',
     ['F:1: listeners[0].client_certificates is not "off" without TLS, expected a certificate, or "off"']),
    ('listeners = ( { certificates = ( { key = "/k"; } ); } );',
     ["F:1: listeners[0].certificates[0].certificate is missing, expected an absolute path"]),
    ('tls = { certificates = ( { certificate = "/c"; server_names = "a..b"; } ); };',
     ['F:1: tls.certificates[0].server_names is "a..b", expected host names with a space between two']),
    ('listeners = ( { protocol = "lmtp"; } );',
     ['F:1: listeners[0].port is 25, expected another one with protocol "lmtp" (RFC 2033 5)']),
    ('listeners = ( { address = "unix:/run/x"; protocol = "lmtp"; } );',
     ['F:1: listeners[0].name is "", expected a name for a unix socket']),
    ('listeners = ( { name = "l"; address = "unix:/run/x"; protocol = "lmtp"; port = 24; } );',
     ["F:1: listeners[0].port is given, expected none for a unix socket"]),
    ('listeners = ( { name = "l"; address = "unix:x"; } );',
     ['F:1: listeners[0].address is "unix:x", expected an address as "192.0.2.1", "::", "127.0.0.1:25" or "unix:/path"']),
    ('listeners = ( { socket_mode = "rw-"; } );',
     ['F:1: listeners[0].socket_mode is "rw-", expected a mode in octal as "0660"']),
    ('listeners = ( { dns_checks = { null_mx = "yes"; unknown_senders = "auto"; timeout = "2m"; }; } );',
     ['F:1: listeners[0].dns_checks.null_mx is "yes", expected "auto", "refuse" or "accept"',
      'F:1: listeners[0].dns_checks.unknown_senders is "auto", expected "accept" or "refuse"',
      'F:1: listeners[0].dns_checks.timeout is "2m", expected "100ms" to "1m"']),
    ('domains = ( { name = "a.test";\nquota_messages = 5; over_quota = "bounce"; } );',
     ['F:2: domains[0].over_quota is "bounce", expected "defer" or "refuse"',
      'F:2: domains[0].quota_messages is given, expected none unless mail is delivered into Maildirs']),
    ('listeners = ( { priorities = { min = -10; min_busy = "3"; low_bytes_max = "3G"; }; } );',
     ['F:1: listeners[0].priorities.min is -10, expected -9 to 9',
      'F:1: listeners[0].priorities.min_busy is "3", expected -9 to 9',
      'F:1: listeners[0].priorities.low_bytes_max is "3G", expected "0" to "2G"']),
    ('listeners = ( { role = "mx"; priorities = { min = 1; }; } );',
     ['F:1: listeners[0].priorities.min refuses everything, expected 0 or less, or mt-priority in extensions']),
    ('listeners = ( { role = "mx"; relay_networks = "10.0.0.0/8"; } );',
     ['F:1: listeners[0].relay_networks is given, expected none unless the role is "relay"']),
    ('listeners = ( { extensions = ( "binarymime" ); } );',
     ["F:1: listeners[0].extensions has binarymime, expected chunking with it (RFC 3030 3)"]),
    ('listeners = ( { extensions = ( "smtputf8" ); } );',
     ["F:1: listeners[0].extensions has smtputf8, expected 8bitmime with it (RFC 6531 3.1)"]),
    ('listeners = ( { extensions = ( "auto", "futurerelease" ); } );',
     ['F:1: listeners[0].extensions has futurerelease, expected it only for role "submission" (RFC 4865 4)']),
    ('listeners = ( { proxy = "v2"; } );',
     ["F:1: listeners[0].proxy_networks is empty, expected the addresses of the proxies"]),
    ('listeners = ( { proxy_networks = "10.0.0.1"; } );',
     ['F:1: listeners[0].proxy_networks is given, expected none with proxy "off"']),
    ('listeners = ( { durability = "none"; } );',
     ['F:1: listeners[0].durability is "none", expected "sync" or "relaxed"']),
    ('listeners = ( { relay_networks = ( "10.0.0.1/8" ); } );',
     ['F:1: listeners[0].relay_networks[0] is "10.0.0.1/8", expected no bits behind the prefix, as "10.0.0.0/8"']),
    ('listeners = ( { relay_networks = ( "10.0.0.0/33" ); } );',
     ['F:1: listeners[0].relay_networks[0] is "10.0.0.0/33", expected networks as "10.0.0.0/8" or "2001:db8::/32"']),
    ('listeners = ( { relay_networks = ( "0.0.0.0/0", "everyone" ); } );',
     ['F:1: listeners[0].relay_networks[1] is "everyone", expected networks as "10.0.0.0/8" or "2001:db8::/32"']),
    ("listeners = ( { relay_networks = ( 10 ); } );",
     ['F:1: listeners[0].relay_networks[0] is 10, expected networks as "10.0.0.0/8" or "2001:db8::/32"']),
    ('listeners = ( { message_bytes_max = "50 M"; } );',
     ['F:1: listeners[0].message_bytes_max is "50 M", expected "64K" to "2G"']),
    ('listeners = ( { message_bytes_max = "1K"; } );',
     ['F:1: listeners[0].message_bytes_max is "1K", expected "64K" to "2G"']),
    ("listeners = ( { recipients_max = 99; } );",
     ["F:1: listeners[0].recipients_max is 99, expected 100 to 50000"]),
    ('listeners = ( { timeouts = { command = "5 minutes"; }; } );',
     ['F:1: listeners[0].timeouts.command is "5 minutes", expected "1s" to "1h"']),
    ("listeners = ( { timeouts = { command = 0; }; } );",
     ['F:1: listeners[0].timeouts.command is 0, expected "1s" to "1h"']),
    ('listeners = ( { timeouts = "5m"; } );',
     ['F:1: listeners[0].timeouts is "5m", expected a group { ... }']),
    ('listeners = ( { timeouts = { message = "1m"; data_block = "3m"; }; } );',
     ["F:1: listeners[0].timeouts.message is shorter than data_block, expected at least as long"]),
    ('listeners = ( { hostname = "mail example"; } );',
     ['F:1: listeners[0].hostname is "mail example", expected a host name in ASCII']),
    ('listeners = ( { banner = "a\nb"; } );',
     ['F:1: listeners[0].banner is "a\\x0ab", expected "text" of 0 to 128 printable characters']),
    ('hostname = "bücher.example";',
     ['F:1: hostname is "bücher.example", expected a host name in ASCII']),
    ("hostname = 5;",
     ["F:1: hostname is 5, expected a host name in ASCII"]),
    ('hostname = "-a.example";',
     ['F:1: hostname is "-a.example", expected a host name in ASCII']),
    ("shards = { count = 0; };",
     ['F:1: shards.count is 0, expected 1 to 64 or "auto"']),
    ('shards = { count = "all"; };',
     ['F:1: shards.count is "all", expected 1 to 64 or "auto"']),
    ("shards = { inbound = 2; };",
     ["F:1: shards.delivery is 0, expected inbound and delivery both or neither"]),
    ("shards = { count = 3;\n inbound = 1; delivery = 1; };",
     ["F:1: shards.count is 3, expected inbound and delivery together: 2"]),
    ("shards = { inbound = 40; delivery = 40; };",
     ["F:1: shards.inbound and delivery make 80, expected at most 64"]),
    ("shards = { pin = 1; };",
     ["F:1: shards.pin is 1, expected true or false"]),
    ('spool = { path = "spool"; };',
     ['F:1: spool.path is "spool", expected an absolute path']),
    ('spool = { path = ""; };',
     ['F:1: spool.path is "", expected an absolute path']),
    ('spool = { path = "/var/../etc"; };',
     ['F:1: spool.path is "/var/../etc", expected an absolute path']),
    ('spool = { segment_bytes = "8M"; };',
     ['F:1: spool.segment_bytes is "8M", expected "16M" to "1G"']),
    ('spool = { segment_bytes = "2G"; };',
     ['F:1: spool.segment_bytes is "2G", expected "16M" to "1G"']),
    ('spool = { segment_bytes = "64MB"; };',
     ['F:1: spool.segment_bytes is "64MB", expected "16M" to "1G"']),
    ("limits = { receive_buffers = 1000; };",
     ["F:1: limits.receive_buffers is 1000, expected a power of two"]),
    ("limits = { receive_buffer_bytes = 65536; };",
     ["F:1: limits.receive_buffer_bytes is 65536, expected 1024 to 32768"]),
    ("limits = { ring_entries = 3000; };",
     ["F:1: limits.ring_entries is 3000, expected a power of two"]),
    ('routes = ( { next_hop = "mx"; } );',
     ['F:1: routes[0].domain is missing, expected "example.com", ".example.com" (its subdomains) or "*"']),
    ('routes = ( { domain = "a.example"; },\n { domain = "A.example"; } );',
     ['F:2: routes[1].domain is "a.example" as that of routes[0], expected one route per domain']),
    ('routes = ( { domain = "*.example"; } );',
     ['F:1: routes[0].domain is "*.example", expected "example.com", ".example.com" (its subdomains) or "*"']),
    ('routes = ( { domain = "a.example"; next_hop = "host:port"; } );',
     ['F:1: routes[0].next_hop is "host:port", expected "mx", "mx:example.com", "host.example.com", "192.0.2.1", '
      '"[host or address]:port", "lmtp:host:port" or "lmtp:unix:/path"']),
    ('routes = ( { domain = "a.example"; next_hop = "lmtp:unix:lmtp"; } );',
     ['F:1: routes[0].next_hop is "lmtp:unix:lmtp", expected "mx", "mx:example.com", "host.example.com", "192.0.2.1", '
      '"[host or address]:port", "lmtp:host:port" or "lmtp:unix:/path"']),
    ('routes = ( { domain = "a.example"; next_hop = "lmtp:unix:/x"; tls = "require"; } );',
     ['F:1: routes[0].tls asks for TLS on a unix socket, expected "may" or "off"']),
    ('routes = ( { domain = "a.example"; next_hop = "192.0.2.1"; tls = "verify"; } );',
     ['F:1: routes[0].tls is "verify" for an address, expected tls_name to say whose it is']),
    ('routes = ( { domain = "a.example"; tls = "sure"; } );',
     ['F:1: routes[0].tls is "sure", expected "may", "off", "require" or "verify"']),
    ('routes = ( { domain = "a.example"; tls = "require"; tls_ca = "/ca.pem"; } );',
     ['F:1: routes[0].tls_ca is given, but nothing is verified, expected tls = "verify"']),
    ('routes = ( { domain = "a.example"; tls_ca = "ca.pem"; } );',
     ['F:1: routes[0].tls_ca is "ca.pem", expected an absolute path']),
    ('routes = ( { domain = "a.example"; next_hop = "[host]:2525"; port = 25; } );',
     ["F:1: routes[0].port is 25 and next_hop says 2525, expected only one of the two"]),
    ('routes = ( { domain = "a.example"; next_hop = "mx:"; } );',
     ['F:1: routes[0].next_hop is "mx:", expected "mx", "mx:example.com", "host.example.com", "192.0.2.1", '
      '"[host or address]:port", "lmtp:host:port" or "lmtp:unix:/path"']),
    ('routes = ( { domain = "a.example"; recipients_per_transaction_max = 500; } );',
     ['F:1: routes[0].recipients_per_transaction_max is 500, expected 1 to 100 or "auto"']),
    ('delivery = { source_addresses = ( "192.0.2.1", "192.0.2.2" ); };',
     ["F:1: delivery.source_addresses has two of one family, expected one IPv4 and one IPv6 address"]),
    ('delivery = { source_addresses = ( "a" ); };',
     ['F:1: delivery.source_addresses[0] is "a", expected addresses as "192.0.2.1" or "2001:db8::1"']),
    ('delivery = { source_addresses = ( "192.0.2.1", "192.0.2.2", "192.0.2.3" ); };',
     ["F:1: delivery.source_addresses has 3 values, expected at most 2"]),
    ('delivery = { prefer_ipv6 = "yes"; };',
     ['F:1: delivery.prefer_ipv6 is "yes", expected true or false']),
    ('delivery = { timeouts = { dot = "2h"; }; };',
     ['F:1: delivery.timeouts.dot is "2h", expected "1s" to "1h"']),
    ("retry = { factor = 0.5; };",
     ["F:1: retry.factor is 0.5, expected 1 to 10"]),
    ('retry = { factor = "2"; };',
     ['F:1: retry.factor is "2", expected 1 to 10']),
    ('retry = { initial = "5h"; };',
     ["F:1: retry.max is shorter than initial, expected at least as long"]),
    ('retry = { expire = "10m"; };',
     ["F:1: retry.expire is shorter than the first wait, expected at least as long"]),
    ('retry = { schedule = ( "5m", "soon" ); };',
     ['F:1: retry.schedule[1] is "soon", expected "1s" to "7d"']),
    ("retry = { jitter_percent = 90; };",
     ["F:1: retry.jitter_percent is 90, expected 0 to 50"]),
    ('bounce = { enabled = "yes"; };',
     ['F:1: bounce.enabled is "yes", expected true or false']),
    ("bounce = { quote_bytes_max = -1; };",
     ['F:1: bounce.quote_bytes_max is -1, expected "0" to "10M"']),
    ('dns = { servers = ( "resolver.example" ); };',
     ['F:1: dns.servers[0] is "resolver.example", expected addresses as "192.0.2.1" or "2001:db8::1"']),
    ('dns = { timeout = "10ms"; };',
     ['F:1: dns.timeout is "10ms", expected "100ms" to "1m"']),
    ('admin = { listen = "9925"; };',
     ['F:1: admin.listen is "9925", expected an address and port as "127.0.0.1:25" or "[::1]:25", or "off"']),
    ('admin = { listen = "127.0.0.1"; };',
     ['F:1: admin.listen is "127.0.0.1", expected an address and port as "127.0.0.1:25" or "[::1]:25", or "off"']),
    ('admin = { listen = "127.0.0.1:25"; };',
     ["F:1: admin.listen is the address and port of listeners[0], expected another"]),
    ('admin = { socket = "control.sock"; };',
     ['F:1: admin.socket is "control.sock", expected an absolute path']),
    ('events = { types = ( "reception", "opened" ); };',
     ['F:1: events.types[1] is "opened", expected "reception", "delivery", "deferral", "bounce", "expiry", '
      '"rejection", "removal" or "filter"']),
    ('milters = ( { name = "a"; socket = "/run/a"; } );',
     ['F:1: milters[0].socket is "/run/a", expected "unix:/path" or "inet:address:port"']),
    ('milters = ( { name = "a"; socket = "inet:127.0.0.1"; } );',
     ['F:1: milters[0].socket is "inet:127.0.0.1", expected "unix:/path" or "inet:address:port"']),
    ('milters = ( { name = "a"; } );', ["F:1: milters[0].socket is missing, expected \"unix:/path\" or \"inet:address:port\""]),
    ('milters = ( { name = "a"; socket = "unix:/a"; }, { name = "a"; socket = "unix:/b"; } );',
     ['F:1: milters[1].name is "a" as that of another one, expected a name of its own']),
    ('milters = ( { name = "a"; socket = "unix:/a"; default_action = "discard"; } );',
     ['F:1: milters[0].default_action is "discard", expected "tempfail", "accept" or "reject"']),
    ('milters = ( { name = "a"; socket = "unix:/a"; timeouts = { content = 0; }; } );',
     ['F:1: milters[0].timeouts.content is 0, expected "100ms" to "1h"']),
    ('milters = ( { name = "a"; socket = "unix:/a"; } );\nlisteners = ( { milters = "a b"; } );',
     ['F:2: listeners[0].milters has "b", expected names of `milters` with a space between two']),
    ('milters = ( { name = "a"; socket = "unix:/a"; } );\nlisteners = ( { milters = "a a a a a a a a a"; } );',
     ["F:2: listeners[0].milters has more, expected at most 8"]),
    ('events = { path = "log"; };',
     ['F:1: events.path is "log", expected an absolute path']),
    ("events = { keep_files = 0; };",
     ["F:1: events.keep_files is 0, expected 1 to 1000"]),
    ('log = { level = "verbose"; };',
     ['F:1: log.level is "verbose", expected "error", "warning", "info" or "debug"']),
    ('stop_timeout = "2h";',
     ['F:1: stop_timeout is "2h", expected "0s" to "1h"']),
    ('stop_timeout = "";',
     ['F:1: stop_timeout is "", expected "0s" to "1h"']),
    ('hostname = "a.example"\nhostname = "b.example"',
     ["F:2: duplicate setting name, expected each key once in its group"]),
    ('hostname "a.example";',
     ['F:1: syntax error, expected key = value; with "text", 10, true, ( list ) or { group }']),
    ('hostname = "a.example;\n',
     ['F:2: syntax error, expected key = value; with "text", 10, true, ( list ) or { group }']),
    ("limits = { connections_max = 5;",
     ['F:1: syntax error, expected key = value; with "text", 10, true, ( list ) or { group }']),
    ('@include "no-such-file"',
     ["F:1: cannot open include file, expected a readable file after @include"]),
    ('x = [ 1, "a" ];',
     ["F:1: mismatched element type in array, expected values of one type between [ and ]"]),
    ("}",
     ['F:1: syntax error, expected key = value; with "text", 10, true, ( list ) or { group }']),
    ('@include "/tmp"',
     ["F:1: cannot open include file, expected a readable file after @include"]),
    ("hostname = 1;\nspool = {\n    path = 2;\n    sze = 3;\n};\n"
     "listeners = (\n    { port = 4; },\n    { port = 0; }\n);",
     ["F:1: hostname is 1, expected a host name in ASCII",
      "F:3: spool.path is 2, expected an absolute path",
      "F:4: spool.sze is not a known key, expected one of path, segment_bytes, spare_segments_max, "
      "compaction_rate",
      "F:8: listeners[1].port is 0, expected 1 to 65535"]),
    ('routes = (\n    {\n        domain = "a.example";\n        port = "x";\n    }, {\n        port = 25;\n    }\n);',
     ['F:4: routes[0].port is "x", expected 1 to 65535',
      'F:5: routes[1].domain is missing, expected "example.com", ".example.com" (its subdomains) or "*"']),
    ('log = { level = [ "info" ]; };',
     ['F:1: log.level is a list, expected "error", "warning", "info" or "debug"']),
    ('routes = "*";',
     ['F:1: routes is "*", expected a list ( { ... }, ... )']),
    ("limits = 5;",
     ["F:1: limits is 5, expected a group { ... }"]),
    ('delivery = { hostname = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example"; };',
     ['F:1: delivery.hostname is "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", expected a host '
      'name in ASCII']),
]


# What libconfig 1.7 says otherwise: to it what no integer can hold is no number.
LATER = {"listeners = ( { port = 99999999999999999999; } );":
         ['F:1: syntax error, expected key = value; with "text", 10, true, ( list ) or { group }']}


def ringpost(*arguments):
    return subprocess.run([RINGPOST, *arguments], capture_output=True, text=True, errors="replace", timeout=30)


@pytest.mark.parametrize("text, errors", BAD)
def test_bad_configuration(tmp_path, text, errors):
    path = tmp_path / "F"
    path.write_text(text)
    run = ringpost("check", "--config", str(path))
    assert run.stderr.replace(str(path), "F").splitlines() in (errors, LATER.get(text, errors))
    assert run.returncode == 78
    assert run.stdout == ""


def test_errors_of_an_included_file_name_it(tmp_path):
    (tmp_path / "F").write_text('@include "routes.conf"\n')
    (tmp_path / "routes.conf").write_text('routes = (\n    { domain = "*"; port = 0; }\n);\n')
    run = ringpost("check", "--config", str(tmp_path / "F"))
    assert run.stderr.splitlines() == [f"{tmp_path}/routes.conf:2: routes[0].port is 0, expected 1 to 65535"]


@pytest.mark.parametrize("path, why", [("no-such-file", "No such file or directory"), ("", "Is a directory")])
def test_file_that_cannot_be_read(tmp_path, path, why):
    run = ringpost("check", "--config", f"{tmp_path}/{path}")
    assert run.stderr == f"{tmp_path}/{path}: cannot be read: {why}, expected a configuration file\n"
    assert run.returncode == 78


@pytest.mark.parametrize("name", ["ringpost.conf", "ringpost-local.conf"])
def test_shipped_configuration_is_good(name):
    run = ringpost("check", "--config", os.path.join(ROOT, "deploy", name))
    assert run.stderr == ""
    assert run.returncode == 0


def test_reference_says_what_an_empty_file_means(tmp_path):
    (tmp_path / "empty").write_text("")
    effective = [ringpost("check", "--print", "--config", path).stdout for path in (REFERENCE, str(tmp_path / "empty"))]
    assert "segment_bytes" in effective[0]
    assert effective[0] == effective[1]


def test_every_key_is_in_the_reference_with_a_reason():
    keys = set(re.findall(r"^\s*(\w+) =", ringpost("check", "--print", "--config", REFERENCE).stdout, re.M))
    lines = open(REFERENCE).read().splitlines()
    reasoned = set()
    for above, line in zip(lines, lines[1:]):
        match = re.match(r"\s*(\w+) =", line)
        if match and ("#" in line or above.strip().startswith("#") or re.match(r"\s*\w+ = .*;", above)):
            reasoned.add(match.group(1))
    # Groups that hold nothing but explained keys, and the first key of a list's item, may do without.
    # So may the rates, which stand side by side below theirs.
    rates = {"account", "listener", "network", "connections", "messages", "recipients", "bytes", "errors"}
    assert keys - reasoned - rates <= {"timeouts", "dns", "log", "domain", "limits", "delivery"}
    assert len(keys) > 70


def test_printed_configuration_is_read_back(tmp_path):
    (tmp_path / "a").write_text("""
        hostname = "mx.example"; shards = { inbound = 1; delivery = 2; };
        listeners = ( { address = "[::1]:2525"; relay_networks = [ "10.0.0.0/8", "2001:db8::/32" ]; },
                      { name = "l"; address = "unix:/run/l"; protocol = "lmtp"; socket_owner = "root:mail"; } );
        domains = ( { name = "c.example"; deliver = "lmtp:[::1]:2424"; },
                    { name = "d.example"; deliver = "lmtp:unix:/run/d"; } );
        routes = ( { domain = "*"; next_hop = "10.0.0.1:26"; }, { domain = ".b.example"; }, { domain = "b.example"; },
                   { domain = ".a.b.example"; next_hop = "mx:c.example"; } );
        retry = { schedule = ( "5m", 90, "36h" ); }; dns = { servers = "127.0.0.1:5353"; };
        admin = { listen = "off"; socket = ""; }; events = { path = ""; types = ( "bounce" ); };
    """)
    first = ringpost("check", "--print", "--config", str(tmp_path / "a")).stdout
    (tmp_path / "b").write_text(first)
    assert ringpost("check", "--print", "--config", str(tmp_path / "b")).stdout == first
    assert re.findall(r'domain = "(.*)"', first) == ["b.example", "c.example", "d.example", ".a.b.example", ".b.example", "*"]
    assert 'schedule = ( "5m", "90s", "36h" );' in first


@pytest.mark.parametrize("arguments", [
    [], ["nonsense"], ["check", "--no-such"], ["check", "--config"], ["check", "extra"], ["serve", "--port", "25"],
    ["queue", "nonsense"], ["queue", "hold"], ["version", "x"],
])
def test_usage_errors(arguments):
    run = ringpost(*arguments)
    assert run.returncode == 64
    assert run.stdout == ""
    assert run.stderr != ""


@pytest.mark.parametrize("command", ["serve", "check", "queue", "version"])
def test_help(command):
    run = ringpost(command, "--help")
    assert run.returncode == 0
    assert run.stdout.startswith(f"usage: ringpost {command}")
    assert command in ringpost("--help").stdout


def test_version():
    assert ringpost("--version").stdout.startswith("ringpost ")
    assert "wolfSSL" in ringpost("version").stdout


def test_documentation_has_every_key_with_its_default(tmp_path):
    """The names of `check --print`, with their groups, are the rows of the table in docs/configuration.md."""
    (tmp_path / "F").write_text('hostname = "h.example"; shards = { count = 1; };')
    groups, keys = [], {}
    for line in ringpost("check", "--print", "--config", str(tmp_path / "F")).stdout.splitlines():
        match = re.match(r"\s*(\w+) = (.*?);?$", line)
        if match and match.group(2) in ("{", "("):
            groups.append(match.group(1) + ("[]" if match.group(2) == "(" else ""))
        elif match:
            keys[".".join(groups + [match.group(1)])] = match.group(2)
        elif line.strip() in ("};", ");"):
            groups.pop()
    table = open(os.path.join(ROOT, "docs", "configuration.md")).read().split("## All keys")[1]
    rows = dict(re.findall(r"^\| `([\w\[\].]+)` \| `?(.*?)`? \|", table, re.M))
    assert set(keys) == set(rows)
    effective = {key for key in keys if rows[key] != keys[key]}
    # Those whose default is found out: names, "auto", and the written-out schedule.
    assert effective <= {"hostname", "shards.count", "listeners[].name", "listeners[].hostname", "delivery.hostname",
                         "listeners[].extensions", "listeners[].auth", "listeners[].tls", "listeners[].dns_checks.null_mx",
                         "routes[].domain", "routes[].connections_max", "routes[].messages_per_connection_max",
                         "routes[].recipients_per_transaction_max", "retry.schedule"}
