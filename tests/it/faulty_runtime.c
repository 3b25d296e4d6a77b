/* ONNX Runtime that fails when it is told to: a library that hands everything on to the real one, and stands between it and its
 * caller in two places. What a device that has fallen off the bus, or a driver that hangs, does to a process.
 *
 * FAULTY_RUNTIME_REAL: the real library. FAULTY_RUNTIME_FAULTS: a folder. While it has a file of this name,
 *   fail     every run of a session fails
 *   hang     a run does not return
 *   no_open  no session can be opened from a file
 *   crash    a run ends the process
 *   apart    the same, in processes that try messages apart (clipstream run --trial)
 *   poison   holds a token's id and a word; a run over that token, alone or among others, does what the word says:
 *            segv     ends the process
 *            sicken   fails, as does every run after it in this process, where no session can be opened any more
 *            devour   takes 700 MiB of memory, and waits until the process is killed, after seconds by itself, as the kernel kills
 * A call that one of them befell leaves a byte in the file FAULT.hit beside it: that it happened at all is then no matter of faith.
 *
 * The places of the functions in OrtApi are part of its ABI and never change (onnxruntime_c_api.h). */

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CREATE_STATUS = 0, CREATE_SESSION = 7, RUN = 9, FUNCTIONS = 600 };
enum { DATA = 51, ELEMENT_TYPE = 60, ELEMENT_COUNT = 64, TYPE_AND_SHAPE = 65, RELEASE_TYPE_AND_SHAPE = 99 };
enum { ORT_FAIL = 1, ORT_INT32 = 6, ORT_INT64 = 7 };

typedef struct {
    const void *const *(*get_api)(unsigned version);
    const char *(*get_version)(void);
} ApiBase;

typedef void *(*CreateStatus)(int code, const char *message);
typedef void *(*CreateSession)(const void *, const char *, const void *, void **);
typedef void *(*Run)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t,
                     void **);
typedef void *(*Data)(const void *, void **);
typedef void *(*TypeAndShape)(const void *, void **);
typedef void *(*ElementType)(const void *, int *);
typedef void *(*ElementCount)(const void *, size_t *);
typedef void (*Release)(void *);

static const ApiBase *real;
static const void *const *real_api;
static const void *api[FUNCTIONS];

static int is_on(const char *fault) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULTY_RUNTIME_FAULTS"), fault);
    return access(path, F_OK) == 0;
}

/* Of the whole process, once it has had the poison that sickens. */
static volatile int sick;

/* Whether one of the inputs has this token. */
static int has_token(const void *const *inputs, size_t length, int64_t token) {
    for (size_t n = 0; n < length; n++) {
        void *info = NULL, *data = NULL;
        int type = 0;
        size_t count = 0;
        if (((TypeAndShape)real_api[TYPE_AND_SHAPE])(inputs[n], &info)) continue;
        ((ElementType)real_api[ELEMENT_TYPE])(info, &type);
        ((ElementCount)real_api[ELEMENT_COUNT])(info, &count);
        ((Release)real_api[RELEASE_TYPE_AND_SHAPE])(info);
        if ((type != ORT_INT32 && type != ORT_INT64) || ((Data)real_api[DATA])(inputs[n], &data)) continue;
        for (size_t at = 0; at < count; at++) {
            if ((type == ORT_INT64 ? ((int64_t *)data)[at] : ((int32_t *)data)[at]) == token) return 1;
        }
    }
    return 0;
}

static void segv(void) { *(volatile int *)16 = 1; }

static void devour(void) {
    enum { BYTES = 700 << 20, STEP = 1 << 20 };
    char *all = malloc(BYTES);
    for (size_t at = 0; all && at < BYTES; at += STEP) memset(all + at, 1, STEP);
    sleep(3);
    kill(getpid(), SIGKILL);
}

static void poison(const void *const *inputs, size_t length) {
    char path[4096], how[16] = "";
    long long token = 0;
    snprintf(path, sizeof path, "%s/poison", getenv("FAULTY_RUNTIME_FAULTS"));
    FILE *file = fopen(path, "r");
    if (!file) return;
    int read = fscanf(file, "%lld %15s", &token, how);
    fclose(file);
    if (read != 2 || !has_token(inputs, length, token)) return;
    if (!strcmp(how, "segv")) segv();
    if (!strcmp(how, "sicken")) sick = 1;
    if (!strcmp(how, "devour")) devour();
}

static int is_apart(void) {
    char arguments[8192] = "";
    FILE *file = fopen("/proc/self/cmdline", "r");
    size_t length = file ? fread(arguments, 1, sizeof arguments - 1, file) : 0;
    if (file) fclose(file);
    for (size_t at = 0; at < length; at++) {
        if (!strcmp(arguments + at, "--trial")) return 1;
    }
    return 0;
}

static int hits(const char *fault) {
    char path[4096];
    if (!is_on(fault)) return 0;
    snprintf(path, sizeof path, "%s/%s.hit", getenv("FAULTY_RUNTIME_FAULTS"), fault);
    int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    if (file < 0) return 1;
    if (write(file, "x", 1) != 1) perror("faulty_runtime");
    close(file);
    return 1;
}

static void *failure(const char *message) {
    return ((CreateStatus)real_api[CREATE_STATUS])(ORT_FAIL, message);
}

static void *create_session(const void *environment, const char *path, const void *options, void **session) {
    if (hits("no_open") || sick) return failure("CUDA failure 100: no CUDA-capable device is detected");
    return ((CreateSession)real_api[CREATE_SESSION])(environment, path, options, session);
}

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
                 size_t inputs_length, const char *const *output_names, size_t outputs_length, void **outputs) {
    if (hits("hang"))
        while (is_on("hang")) usleep(20000);
    if (is_on("crash") || (is_on("apart") && is_apart())) segv();
    poison(inputs, inputs_length);
    if (hits("fail") || sick) return failure("CUDA failure 700: an illegal memory access was encountered");
    return ((Run)real_api[RUN])(session, options, input_names, inputs, inputs_length, output_names, outputs_length, outputs);
}

static const void *const *get_api(unsigned version) {
    real_api = real->get_api(version);
    if (!real_api) return NULL;
    memcpy(api, real_api, sizeof api);
    api[CREATE_SESSION] = (const void *)create_session;
    api[RUN] = (const void *)run;
    return api;
}

static const char *get_version(void) { return real->get_version(); }

const ApiBase *OrtGetApiBase(void) {
    static const ApiBase base = {get_api, get_version};
    if (!real) {
        void *library = dlopen(getenv("FAULTY_RUNTIME_REAL"), RTLD_NOW | RTLD_LOCAL);
        const ApiBase *(*get_base)(void) = library ? (const ApiBase *(*)(void))dlsym(library, "OrtGetApiBase") : NULL;
        if (!get_base) {
            fprintf(stderr, "faulty_runtime: %s\n", dlerror());
            abort();
        }
        real = get_base();
    }
    return &base;
}
