/* DNS of the rig: a table that the test writes, in place of dns/mx.c. Included by delivery_rig.h alone. */
#ifndef TEST_DELIVERY_DNS_H
#define TEST_DELIVERY_DNS_H

struct mx_work {
    struct timer timer;
    struct mx_lookup *lookup;
    struct name name;
    struct shard *shard;
};

/* The resolver is only a handle here: the shard. */
struct resolver {
    struct shard *shard;
};

bool mx_permanent(enum mx_class class)
{
    return class != MX_TEMPORARY && class != MX_HOSTS;
}

const char *mx_class_name(enum mx_class class)
{
    (void)class;
    return "class";
}

const char *mx_enhanced_code(enum mx_class class)
{
    return class == MX_NULL ? "5.1.10" : class == MX_TEMPORARY ? "4.4.3" : "5.1.2";
}

unsigned mx_reply_code(enum mx_class class)
{
    return class == MX_TEMPORARY ? 451 : 550;
}

static void lookup_finish(struct mx_lookup *lookup, const struct name *name, const struct shard *shard)
{
    struct mx_address addresses[4];
    struct mx_host hosts[4];
    char text[64];
    snprintf(text, sizeof text, "site-%s", name->domain);
    for (unsigned i = 0; i < name->host_count; i++) {
        addresses[i] = (struct mx_address){.family = AF_INET};
        memcpy(addresses[i].bytes, &name->hosts[i]->address.sin_addr, 4);
        hosts[i] = (struct mx_host){.name = BYTES("mx.test"), .address_count = 1, .addresses = &addresses[i]};
    }
    lookup->result = mx_result_new(&(struct mx_result){
        .class = name->class,
        .expires_ms = shard->now_ms + name->ttl_ms,
        .site = bytes_of(text, name->class == MX_HOSTS ? strlen(text) : 0),
        .reason = name->class == MX_HOSTS ? bytes_of("", 0) : BYTES("DNS said no"),
        .hosts = hosts,
        .host_count = name->host_count,
    });
}

static void lookup_fired(struct timer *timer)
{
    struct mx_work *work = CONTAINER_OF(timer, struct mx_work, timer);
    struct mx_lookup *lookup = work->lookup;
    lookup_finish(lookup, &work->name, work->shard);
    lookup->work = NULL;
    free(work);
    lookup->done(lookup);
}

void mx_lookup_init(struct mx_lookup *lookup, void (*done)(struct mx_lookup *lookup))
{
    *lookup = (struct mx_lookup){.done = done};
}

void mx_lookup_release(struct mx_lookup *lookup)
{
    if (lookup->work != NULL) {
        shard_disarm(lookup->work->shard, &lookup->work->timer);
        free(lookup->work);
        lookup->work = NULL;
    }
    mx_result_release(lookup->result);
    lookup->result = NULL;
}

static bool lookup_begin(struct mx_lookup *lookup, struct resolver *resolver, struct bytes domain)
{
    struct name name = {.domain = "?", .class = MX_NO_DOMAIN, .ttl_ms = 60000};
    CHECK(lookup->work == NULL && lookup->result == NULL);
    rig.lookups++;
    pthread_mutex_lock(&rig.names_lock);
    for (unsigned i = 0; i < rig.name_count; i++) {
        if (bytes_equal(bytes_of_string(rig.names[i].domain), domain)) {
            name = rig.names[i];
        }
    }
    pthread_mutex_unlock(&rig.names_lock);
    if (name.delay_ms == 0) {
        lookup_finish(lookup, &name, resolver->shard);
        return true;
    }
    lookup->work = calloc(1, sizeof *lookup->work);
    *lookup->work = (struct mx_work){.lookup = lookup, .name = name, .shard = resolver->shard};
    wheel_timer_init(&lookup->work->timer, lookup_fired);
    shard_arm(resolver->shard, &lookup->work->timer, name.delay_ms);
    return false;
}

bool mx_lookup_start(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                     struct bytes domain)
{
    (void)settings;
    return lookup_begin(lookup, resolver, domain);
}

bool mx_lookup_host(struct mx_lookup *lookup, struct resolver *resolver, const struct mx_settings *settings,
                    struct bytes host)
{
    (void)settings;
    return lookup_begin(lookup, resolver, host);
}

/* Sets what DNS says of a name, from now on. */
static void rig_name(struct name name)
{
    pthread_mutex_lock(&rig.names_lock);
    unsigned i = 0;
    while (i < rig.name_count && strcmp(rig.names[i].domain, name.domain) != 0) {
        i++;
    }
    name.ttl_ms = name.ttl_ms != 0 ? name.ttl_ms : 60000;
    rig.names[i] = name;
    rig.name_count += i == rig.name_count;
    pthread_mutex_unlock(&rig.names_lock);
}

static void rig_names_host(const char *domain, struct host *host)
{
    rig_name((struct name){.domain = domain, .class = MX_HOSTS, .host_count = 1, .hosts = {host}});
}

#endif
