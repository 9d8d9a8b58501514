/* Encodes terms in the External Term Format, at C speed: what etf/writer.py means, byte for byte.
 *
 * Optional. Without it erlpack and the exact writer do the same, slower. It writes the types that most
 * values are made of; where it finds any other (an integer past 64 bits, a pid, a key that may be the same
 * term as another one, nesting past MAX_DEPTH) it returns None and the exact writer takes the whole value.
 *
 * Encoder(none, atom_type, exact_types, convert)
 *     .encode(value)       bytes with version byte, or None
 *     .encode_list(held, limit)
 *                          (bytes without version byte, count), or None: a list of as many of what a
 *                          Holder returned as make more than `limit` bytes, or all
 * Holder(encoder)          called with a value: itself if it cannot change, else [its encoding]
 *     .begin(permits, limit)
 *                          clears the list `permits` when it has encoded more than `limit` bytes
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How deep containers may lie in each other. Larger: more of the C stack is used. Smaller: values that
 * could be written here go the slow way. */
#define MAX_DEPTH 100

enum { FAILED = -1, DONE = 0, NEEDS_EXACT = 1 };

typedef struct {
    char *data;
    size_t size, capacity;
    char first[1024]; /* Most values fit, and cost no allocation. */
} Buffer;

typedef struct {
    PyObject_HEAD
    PyObject *none; /* The encoded atom that None becomes. */
    PyObject *atom_type, *exact_types, *convert;
} Encoder;

static void buffer_init(Buffer *b)
{
    b->data = b->first;
    b->size = 0;
    b->capacity = sizeof b->first;
}

static void buffer_free(Buffer *b)
{
    if (b->data != b->first)
        PyMem_Free(b->data);
}

static char *reserve(Buffer *b, size_t count)
{
    if (b->capacity - b->size < count) {
        size_t capacity = b->capacity * 2 > b->size + count ? b->capacity * 2 : b->size + count;
        char *data = b->data == b->first ? PyMem_Malloc(capacity) : PyMem_Realloc(b->data, capacity);
        if (data == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
        if (b->data == b->first)
            memcpy(data, b->first, b->size);
        b->data = data;
        b->capacity = capacity;
    }
    char *at = b->data + b->size;
    b->size += count;
    return at;
}

static void put32(char *at, uint32_t value)
{
    at[0] = (char)(value >> 24);
    at[1] = (char)(value >> 16);
    at[2] = (char)(value >> 8);
    at[3] = (char)value;
}

static int put_bytes(Buffer *b, const char *data, size_t size)
{
    char *at = reserve(b, size);
    if (at == NULL)
        return FAILED;
    memcpy(at, data, size);
    return DONE;
}

/* A tag, four bytes of size, and that many bytes. */
static int put_sized(Buffer *b, char tag, const char *data, Py_ssize_t size)
{
    if ((uint64_t)size > UINT32_MAX)
        return NEEDS_EXACT;
    char *at = reserve(b, 5 + (size_t)size);
    if (at == NULL)
        return FAILED;
    at[0] = tag;
    put32(at + 1, (uint32_t)size);
    memcpy(at + 5, data, (size_t)size);
    return DONE;
}

static int put_head(Buffer *b, char tag, Py_ssize_t size)
{
    if ((uint64_t)size > UINT32_MAX)
        return NEEDS_EXACT;
    char *at = reserve(b, 5);
    if (at == NULL)
        return FAILED;
    at[0] = tag;
    put32(at + 1, (uint32_t)size);
    return DONE;
}

static int put_integer(Buffer *b, PyObject *value)
{
    int overflow;
    long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
    char *at;
    if (overflow)
        return NEEDS_EXACT;
    if (number >= 0 && number <= 255) {
        if ((at = reserve(b, 2)) == NULL)
            return FAILED;
        at[0] = 97;
        at[1] = (char)number;
        return DONE;
    }
    if (number >= INT32_MIN && number <= INT32_MAX) {
        if ((at = reserve(b, 5)) == NULL)
            return FAILED;
        at[0] = 98;
        put32(at + 1, (uint32_t)(int32_t)number);
        return DONE;
    }
    uint64_t magnitude = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    char digits[8];
    size_t count = 0;
    for (uint64_t rest = magnitude; rest; rest >>= 8)
        digits[count++] = (char)rest;
    if ((at = reserve(b, 3 + count)) == NULL)
        return FAILED;
    at[0] = 110;
    at[1] = (char)count;
    at[2] = number < 0;
    memcpy(at + 3, digits, count);
    return DONE;
}

static int put_float(Buffer *b, double value)
{
    if (isnan(value))
        return put_bytes(b, "w\3nan", 5);
    if (isinf(value))
        return value > 0 ? put_bytes(b, "w\10infinity", 10) : put_bytes(b, "w\14neg_infinity", 14);
    char *at = reserve(b, 9);
    if (at == NULL)
        return FAILED;
    uint64_t bits;
    memcpy(&bits, &value, 8);
    at[0] = 70;
    put32(at + 1, (uint32_t)(bits >> 32));
    put32(at + 5, (uint32_t)bits);
    return DONE;
}

static int put_text(Buffer *b, PyObject *value)
{
    if (PyUnicode_IS_COMPACT_ASCII(value))
        return put_sized(b, 109, (const char *)PyUnicode_1BYTE_DATA(value), PyUnicode_GET_LENGTH(value));
    /* Not PyUnicode_AsUTF8AndSize, which would keep the bytes for as long as the text lives. */
    PyObject *utf8 = PyUnicode_AsUTF8String(value);
    if (utf8 == NULL)
        return FAILED;
    int result = put_sized(b, 109, PyBytes_AS_STRING(utf8), PyBytes_GET_SIZE(utf8));
    Py_DECREF(utf8);
    return result;
}

static int put_atom(Buffer *b, PyObject *value)
{
    PyObject *utf8 = PyUnicode_AsUTF8String(value);
    if (utf8 == NULL)
        return FAILED;
    size_t size = (size_t)PyBytes_GET_SIZE(utf8), head = size < 256 ? 2 : 3;
    char *at = reserve(b, head + size);
    if (at != NULL) {
        at[0] = size < 256 ? 119 : 118;
        if (head == 3)
            at[1] = (char)(size >> 8);
        at[head - 1] = (char)size;
        memcpy(at + head, PyBytes_AS_STRING(utf8), size);
    }
    Py_DECREF(utf8);
    return at == NULL ? FAILED : DONE;
}

/* Whether it was a scalar that runs no code when it is encoded: then `*result` is how that went. */
static int put_scalar(Encoder *e, Buffer *b, PyObject *value, int *result)
{
    PyTypeObject *type = Py_TYPE(value);
    if (type == &PyUnicode_Type)
        *result = put_text(b, value);
    else if (type == &PyLong_Type)
        *result = put_integer(b, value);
    else if (type == &PyFloat_Type)
        *result = put_float(b, PyFloat_AS_DOUBLE(value));
    else if (value == Py_None)
        *result = put_bytes(b, PyBytes_AS_STRING(e->none), (size_t)PyBytes_GET_SIZE(e->none));
    else if (type == &PyBool_Type)
        *result = value == Py_True ? put_bytes(b, "w\4true", 6) : put_bytes(b, "w\5false", 7);
    else if (type == &PyBytes_Type)
        *result = put_sized(b, 109, PyBytes_AS_STRING(value), PyBytes_GET_SIZE(value));
    else if ((PyObject *)type == e->atom_type)
        *result = put_atom(b, value);
    else
        return 0;
    return 1;
}

static int put(Encoder *e, Buffer *b, PyObject *value, int depth);

/* The elements of a tuple, which nobody can change. */
static int put_elements(Encoder *e, Buffer *b, PyObject *tuple, int depth)
{
    int result = DONE;
    for (Py_ssize_t i = 0; result == DONE && i < PyTuple_GET_SIZE(tuple); i++) {
        PyObject *item = PyTuple_GET_ITEM(tuple, i);
        if (!put_scalar(e, b, item, &result))
            result = put(e, b, item, depth + 1);
    }
    return result;
}

static int put_tuple(Encoder *e, Buffer *b, PyObject *value, int depth)
{
    Py_ssize_t size = PyTuple_GET_SIZE(value);
    if (size < 256) {
        char *at = reserve(b, 2);
        if (at == NULL)
            return FAILED;
        at[0] = 104;
        at[1] = (char)size;
    }
    else {
        int result = put_head(b, 105, size);
        if (result != DONE)
            return result;
    }
    return put_elements(e, b, value, depth);
}

static int put_list(Encoder *e, Buffer *b, PyObject *value, int depth)
{
    Py_ssize_t size = PyList_GET_SIZE(value);
    size_t start = b->size;
    int result;
    if (size == 0)
        return put_bytes(b, "j", 1);
    if ((result = put_head(b, 108, size)) != DONE)
        return result;
    for (Py_ssize_t i = 0; i < size; i++) {
        if (!put_scalar(e, b, PyList_GET_ITEM(value, i), &result)) {
            /* Code may run from here on, and change the list: a copy is written, from its beginning. */
            b->size = start + 5;
            PyObject *copy = PyList_AsTuple(value);
            if (copy == NULL)
                return FAILED;
            result = put_elements(e, b, copy, depth);
            Py_DECREF(copy);
            break;
        }
        if (result != DONE)
            return result;
    }
    return result == DONE ? put_bytes(b, "j", 1) : result;
}

/* Kinds of keys, as safe_keys in etf/writer.py has them. */
enum { STR_KEY = 1, ATOM_KEY = 2, INT_KEY = 4, BOOL_KEY = 8, NONE_KEY = 16, BYTES_KEY = 32, OTHER_KEY = 64 };

static int key_kind(Encoder *e, PyObject *key)
{
    PyTypeObject *type = Py_TYPE(key);
    if (type == &PyUnicode_Type)
        return STR_KEY;
    if (type == &PyLong_Type)
        return INT_KEY;
    if (type == &PyBytes_Type)
        return BYTES_KEY;
    if (type == &PyBool_Type)
        return BOOL_KEY;
    if (key == Py_None)
        return NONE_KEY;
    return (PyObject *)type == e->atom_type ? ATOM_KEY : OTHER_KEY;
}

static int is_safe(int kinds)
{
    return (kinds & ~(STR_KEY | ATOM_KEY | INT_KEY)) == 0 ||
           (kinds & ~(STR_KEY | INT_KEY | BOOL_KEY | NONE_KEY)) == 0 ||
           (kinds & ~(BYTES_KEY | INT_KEY | BOOL_KEY | NONE_KEY)) == 0;
}

static int put_dict(Encoder *e, Buffer *b, PyObject *value, int depth)
{
    Py_ssize_t at = 0;
    PyObject *key, *entry, *copy = NULL;
    size_t start = b->size;
    int kinds = 0, result;
    if ((result = put_head(b, 116, PyDict_GET_SIZE(value))) != DONE)
        return result;
    while (PyDict_Next(copy == NULL ? value : copy, &at, &key, &entry)) {
        kinds |= key_kind(e, key);
        if (!is_safe(kinds)) {
            result = NEEDS_EXACT;
            break;
        }
        put_scalar(e, b, key, &result);
        if (result != DONE)
            break;
        if (!put_scalar(e, b, entry, &result)) {
            if (copy == NULL) {
                /* As in put_list. */
                if ((copy = PyDict_Copy(value)) == NULL)
                    return FAILED;
                b->size = start + 5;
                at = 0;
                continue;
            }
            result = put(e, b, entry, depth + 1);
        }
        if (result != DONE)
            break;
    }
    Py_XDECREF(copy);
    return result;
}

static int put(Encoder *e, Buffer *b, PyObject *value, int depth)
{
    PyTypeObject *type = Py_TYPE(value);
    int result;
    if (put_scalar(e, b, value, &result))
        return result;
    if (depth >= MAX_DEPTH)
        return NEEDS_EXACT;
    if (type == &PyDict_Type)
        return put_dict(e, b, value, depth);
    if (type == &PyTuple_Type)
        return put_tuple(e, b, value, depth);
    if (type == &PyList_Type)
        return put_list(e, b, value, depth);
    result = PySet_Contains(e->exact_types, (PyObject *)type);
    if (result != 0)
        return result < 0 ? FAILED : NEEDS_EXACT;
    PyObject *converted = PyObject_CallOneArg(e->convert, value);
    if (converted == NULL)
        return FAILED;
    result = put(e, b, converted, depth + 1);
    Py_DECREF(converted);
    return result;
}

static PyObject *finished(Buffer *b, int result)
{
    PyObject *bytes = NULL;
    if (result == DONE)
        bytes = PyBytes_FromStringAndSize(b->data, (Py_ssize_t)b->size);
    else if (result == NEEDS_EXACT)
        bytes = Py_NewRef(Py_None);
    buffer_free(b);
    return bytes;
}

static PyObject *encoder_encode(Encoder *e, PyObject *value)
{
    Buffer b;
    buffer_init(&b);
    b.first[0] = (char)131;
    b.size = 1;
    return finished(&b, put(e, &b, value, 0));
}

/* What a Holder returned: a list holds an encoding, anything else cannot change. */
static int put_held(Encoder *e, Buffer *b, PyObject *held)
{
    if (Py_TYPE(held) == &PyList_Type && PyList_GET_SIZE(held) == 1) {
        PyObject *encoded = PyList_GET_ITEM(held, 0);
        if (PyBytes_CheckExact(encoded))
            return put_bytes(b, PyBytes_AS_STRING(encoded), (size_t)PyBytes_GET_SIZE(encoded));
    }
    return put(e, b, held, 0);
}

static PyObject *encoder_encode_list(Encoder *e, PyObject *const *args, Py_ssize_t count)
{
    if (count != 2 || !PyList_CheckExact(args[0])) {
        PyErr_SetString(PyExc_TypeError, "encode_list takes a list and a limit");
        return NULL;
    }
    Py_ssize_t limit = PyLong_AsSsize_t(args[1]), done = 0;
    if (limit == -1 && PyErr_Occurred())
        return NULL;
    Buffer b;
    buffer_init(&b);
    int result = put_head(&b, 108, 0);
    while (result == DONE && done < PyList_GET_SIZE(args[0]) && (Py_ssize_t)b.size - 5 <= limit) {
        result = put_held(e, &b, PyList_GET_ITEM(args[0], done));
        done++;
    }
    if (done == 0)
        result = NEEDS_EXACT;
    if (result == DONE) {
        put32(b.data + 1, (uint32_t)done);
        result = put_bytes(&b, "j", 1);
    }
    if (result == FAILED && PyErr_ExceptionMatches(PyExc_UnicodeError)) {
        /* Which of them it was is found value by value. */
        PyErr_Clear();
        result = NEEDS_EXACT;
    }
    PyObject *bytes = finished(&b, result);
    if (bytes == NULL || bytes == Py_None)
        return bytes;
    return Py_BuildValue("(Nn)", bytes, done);
}

static int encoder_init(Encoder *e, PyObject *args, PyObject *kwargs)
{
    if (!PyArg_ParseTuple(args, "SOO!O", &e->none, &e->atom_type, &PyFrozenSet_Type, &e->exact_types, &e->convert)) {
        e->none = e->atom_type = e->exact_types = e->convert = NULL;
        return -1;
    }
    Py_INCREF(e->none);
    Py_INCREF(e->atom_type);
    Py_INCREF(e->exact_types);
    Py_INCREF(e->convert);
    return 0;
}

static void encoder_dealloc(Encoder *e)
{
    Py_XDECREF(e->none);
    Py_XDECREF(e->atom_type);
    Py_XDECREF(e->exact_types);
    Py_XDECREF(e->convert);
    Py_TYPE(e)->tp_free((PyObject *)e);
}

static PyMethodDef encoder_methods[] = {
    {"encode", (PyCFunction)encoder_encode, METH_O, "The term with version byte, or None: see the head of the file."},
    {"encode_list", (PyCFunction)(void (*)(void))encoder_encode_list, METH_FASTCALL, "A list of held values and how many, or None."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject EncoderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "erlang_accelerator.Encoder",
    .tp_basicsize = sizeof(Encoder),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)encoder_init,
    .tp_dealloc = (destructor)encoder_dealloc,
    .tp_methods = encoder_methods,
    .tp_doc = "Writes terms; see the head of the file.",
};

typedef struct {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    Encoder *encoder;
    PyObject *exact; /* Encodes, with version byte, what the encoder does not. */
    PyObject *permits;
    Py_ssize_t held, limit;
} Holder;

static int is_fixed(PyObject *value)
{
    PyTypeObject *type = Py_TYPE(value);
    return type == &PyLong_Type || type == &PyUnicode_Type || type == &PyFloat_Type || type == &PyBool_Type ||
           type == &PyBytes_Type || value == Py_None;
}

static PyObject *hold(Holder *h, PyObject *value)
{
    if (is_fixed(value))
        return Py_NewRef(value);
    Buffer b;
    buffer_init(&b);
    int result = put(h->encoder, &b, value, 0);
    PyObject *encoded = finished(&b, result);
    if (encoded == Py_None) {
        Py_DECREF(encoded);
        PyObject *whole = PyObject_CallOneArg(h->exact, value);
        encoded = whole == NULL ? NULL : PySequence_GetSlice(whole, 1, PY_SSIZE_T_MAX);
        Py_XDECREF(whole);
    }
    if (encoded == NULL) {
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            /* It would end the iteration as if nothing had happened (PEP 479). */
            PyErr_SetString(PyExc_RuntimeError, "encoding a value raised StopIteration");
        }
        return NULL;
    }
    h->held += PyBytes_GET_SIZE(encoded);
    if (h->held > h->limit && h->permits != NULL &&
        PyList_SetSlice(h->permits, 0, PY_SSIZE_T_MAX, NULL) < 0) {
        Py_DECREF(encoded);
        return NULL;
    }
    PyObject *list = PyList_New(1);
    if (list == NULL)
        Py_DECREF(encoded);
    else
        PyList_SET_ITEM(list, 0, encoded);
    return list;
}

static PyObject *holder_call(Holder *h, PyObject *const *args, size_t count, PyObject *names)
{
    if (PyVectorcall_NARGS(count) != 1 || names != NULL) {
        PyErr_SetString(PyExc_TypeError, "a Holder takes one value");
        return NULL;
    }
    return hold(h, args[0]);
}

static PyObject *holder_begin(Holder *h, PyObject *args)
{
    PyObject *permits;
    Py_ssize_t limit;
    if (!PyArg_ParseTuple(args, "O!n", &PyList_Type, &permits, &limit))
        return NULL;
    Py_XSETREF(h->permits, Py_NewRef(permits));
    h->limit = limit;
    h->held = 0;
    Py_RETURN_NONE;
}

static int holder_init(Holder *h, PyObject *args, PyObject *kwargs)
{
    if (!PyArg_ParseTuple(args, "O!O", &EncoderType, &h->encoder, &h->exact)) {
        h->encoder = NULL;
        h->exact = NULL;
        return -1;
    }
    Py_INCREF(h->encoder);
    Py_INCREF(h->exact);
    h->vectorcall = (vectorcallfunc)holder_call;
    h->limit = PY_SSIZE_T_MAX;
    return 0;
}

static void holder_dealloc(Holder *h)
{
    Py_XDECREF(h->encoder);
    Py_XDECREF(h->exact);
    Py_XDECREF(h->permits);
    Py_TYPE(h)->tp_free((PyObject *)h);
}

static PyMethodDef holder_methods[] = {
    {"begin", (PyCFunction)holder_begin, METH_VARARGS, "From now on `permits` is cleared past `limit` bytes."},
    {NULL, NULL, 0, NULL}};

static PyTypeObject HolderType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "erlang_accelerator.Holder",
    .tp_basicsize = sizeof(Holder),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(Holder, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)holder_init,
    .tp_dealloc = (destructor)holder_dealloc,
    .tp_methods = holder_methods,
    .tp_doc = "A value as it is now; see the head of the file.",
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "erlang_accelerator",
    .m_doc = "Encodes terms for the package erlang_port, faster.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit_erlang_accelerator(void)
{
    if (PyType_Ready(&EncoderType) < 0 || PyType_Ready(&HolderType) < 0)
        return NULL;
    PyObject *m = PyModule_Create(&module);
    if (m == NULL)
        return NULL;
    if (PyModule_AddObjectRef(m, "Encoder", (PyObject *)&EncoderType) < 0 ||
        PyModule_AddObjectRef(m, "Holder", (PyObject *)&HolderType) < 0 ||
        PyModule_AddStringConstant(m, "VERSION", ACCELERATOR_VERSION) < 0) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}
