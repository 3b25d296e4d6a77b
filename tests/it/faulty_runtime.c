/* ONNX Runtime that fails when it is told to: a library that hands everything on to the real one, and stands between it and its
 * caller in two places. What a device that has fallen off the bus, or a driver that hangs, does to a process.
 *
 * FAULTY_RUNTIME_REAL: the real library. FAULTY_RUNTIME_FAULTS: a folder. While it has a file of this name,
 *   fail     every run of a session fails
 *   hang     a run does not return
 *   no_open  no session can be opened from a file
 *
 * The places of the functions in OrtApi are part of its ABI and never change (onnxruntime_c_api.h). */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CREATE_STATUS = 0, CREATE_SESSION = 7, RUN = 9, FUNCTIONS = 600 };
enum { ORT_FAIL = 1 };

typedef struct {
    const void *const *(*get_api)(unsigned version);
    const char *(*get_version)(void);
} ApiBase;

typedef void *(*CreateStatus)(int code, const char *message);
typedef void *(*CreateSession)(const void *, const char *, const void *, void **);
typedef void *(*Run)(void *, const void *, const char *const *, const void *const *, size_t, const char *const *, size_t,
                     void **);

static const ApiBase *real;
static const void *const *real_api;
static const void *api[FUNCTIONS];

static int is_on(const char *fault) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", getenv("FAULTY_RUNTIME_FAULTS"), fault);
    return access(path, F_OK) == 0;
}

static void *failure(const char *message) {
    return ((CreateStatus)real_api[CREATE_STATUS])(ORT_FAIL, message);
}

static void *create_session(const void *environment, const char *path, const void *options, void **session) {
    if (is_on("no_open")) return failure("CUDA failure 100: no CUDA-capable device is detected");
    return ((CreateSession)real_api[CREATE_SESSION])(environment, path, options, session);
}

static void *run(void *session, const void *options, const char *const *input_names, const void *const *inputs,
                 size_t inputs_length, const char *const *output_names, size_t outputs_length, void **outputs) {
    while (is_on("hang")) usleep(20000);
    if (is_on("fail")) return failure("CUDA failure 700: an illegal memory access was encountered");
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
