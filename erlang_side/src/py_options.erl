%% @doc Every option, its check and its default. An option that is not known,
%% or a value out of range, raises `error({badopt, {Key, Value}})'.
-module(py_options).

-export([call/2, collect/2, exec/2, pool/1, stream/2, worker/1]).
-export([map/1, request/1, timeout/1]).
-export_type([call_options/0, list_of/1, pairs/0, flags/0, pool_options/0, stream_options/0]).

-type flags() :: #{binaries := str | bytes, atoms := atom | str, traceback := boolean(), _ => _}.
-type pairs() :: #{term() => term()} | [{term(), term()}].
%% Keyword arguments or local variables: keys are names, also as a list of pairs.
-type list_of(_Options) :: [{atom(), term()}].
%% The same options as a list of pairs, of which the first with a key counts.
-type stream_options() :: #{
    %% Who gets the events; may be on another node. Default: the caller.
    owner => pid(),
    %% Keyword arguments. Default: none.
    kwargs => pairs(),
    %% The pool, or the pid of a worker of one's own. Default: `default'.
    pool => atom() | pid(),
    %% Values that may be yielded and not yet taken. Default: 1024.
    window => pos_integer(),
    %% The same in encoded bytes. Default: 4 MiB.
    window_bytes => pos_integer(),
    %% Pull mode: the number of values that may come at first. Default: not set.
    demand => non_neg_integer(),
    %% The most values in one event. Default: not set.
    batch => pos_integer(),
    %% The stream ends after this many values. Default: not set.
    take => pos_integer(),
    %% How each value is encoded. Default: `term'.
    format => term | msgpack | json,
    %% Longest wait for the next event, in milliseconds. Default: `infinity'.
    timeout => timeout(),
    %% What binaries in the arguments become. Default: `str'.
    binaries => str | bytes,
    %% What atoms in them become: `erlang.Atom' or plain `str'. Default: `atom'.
    atoms => atom | str,
    %% Whether errors carry a traceback. Default: `false'.
    traceback => boolean()
}.
-type call_options() :: #{
    pool => atom() | pid(),
    %% Default: 30,000 ms.
    timeout => timeout(),
    binaries => str | bytes,
    atoms => atom | str,
    traceback => boolean(),
    %% `exec' only: whether a restarted worker runs the code again. Default: `true'.
    replay => boolean()
}.
-type pool_options() :: #{
    workers => pos_integer(),
    python => string() | binary(),
    venv => py_paths:path(),
    requirements => [string() | binary()] | {file, py_paths:path()} | {project, py_paths:path()},
    python_path => [py_paths:path()],
    env => [{string() | binary(), string() | binary() | false}],
    cd => py_paths:path(),
    preload => [py_name:name()],
    max_streams => pos_integer(),
    max_threads => pos_integer(),
    %% Where calls and sync generators run: `main' is Python's main thread, one at a time.
    thread => any | main,
    memory_limit => pos_integer() | infinity,
    none => none | nil | undefined,
    binaries => str | bytes,
    atoms => atom | str,
    traceback => boolean(),
    window => pos_integer(),
    window_bytes => pos_integer(),
    allow => all | [py_name:name() | {py_name:name(), py_name:name()}],
    interrupt_after => timeout(),
    kill_after => timeout(),
    start_timeout => timeout(),
    %% What a worker may take to leave, in ms: generators, atexit, files, executors.
    stop_timeout => timeout(),
    %% Whether processes that user code started end with their worker.
    children => kill | leave
}.

%% No timer and no `receive' takes more milliseconds, which are 49 days.
-define(IS_MS(V), (V =:= infinity orelse (is_integer(V) andalso V >= 0 andalso V =< 16#ffffffff))).
-define(IS_POS(V), (is_integer(V) andalso V > 0 andalso V < 16#8000000000000000)).
-define(IS_TEXT(V), (is_list(V) orelse is_binary(V))).

%% @doc Options, or whatever else has pairs of keys and values, as a map.
-spec map(term()) -> map().
map(Opts) when is_map(Opts) ->
    Opts;
map(Opts) ->
    try
        maps:from_list(lists:reverse(Opts))
    catch
        error:_ -> error({badopt, {options, Opts}})
    end.

%% @doc The same for options in whose place a timeout may stand.
-spec request(term()) -> map().
request(Opts) when is_map(Opts); is_list(Opts) -> map(Opts);
request(Timeout) -> #{timeout => Timeout}.

%% @doc Checks a time to wait.
-spec timeout(term()) -> timeout().
timeout(Ms) when ?IS_MS(Ms) -> Ms;
timeout(Ms) -> error({badopt, {timeout, Ms}}).

%% @doc Checks the options of a stream and fills in the defaults, the pool's first.
-spec stream(term(), map()) -> map().
stream(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(fun stream_option/2, Opts),
    maps:merge(maps:merge(stream_defaults(), PoolDefaults), Opts).

stream_defaults() ->
    #{
        window => 1024,
        window_bytes => 4 * 1024 * 1024,
        format => term,
        timeout => infinity,
        binaries => str,
        atoms => atom,
        traceback => false
    }.

%% @doc The same for a stream that is collected, which has neither an owner nor events to ask for.
-spec collect(term(), map()) -> map().
collect(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(fun collect_option/2, Opts),
    stream(Opts, PoolDefaults).

collect_option(owner, _) -> false;
collect_option(demand, _) -> false;
%% They have an argument of their own.
collect_option(kwargs, _) -> false;
collect_option(Key, V) -> stream_option(Key, V).

stream_option(owner, V) -> is_pid(V);
stream_option(kwargs, V) -> is_map(V) orelse is_list(V);
stream_option(demand, V) -> V =:= 0 orelse ?IS_POS(V);
stream_option(batch, V) -> ?IS_POS(V);
stream_option(take, V) -> ?IS_POS(V);
stream_option(format, V) -> lists:member(V, [term, msgpack, json]);
stream_option(window, V) -> ?IS_POS(V);
stream_option(window_bytes, V) -> ?IS_POS(V);
stream_option(Key, V) -> common_option(Key, V).

%% @doc The same for a call, an evaluation or an execution.
-spec call(term(), map()) -> map().
call(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(fun call_option/2, Opts),
    maps:merge(maps:merge(call_defaults(), maps:with([binaries, atoms, traceback], PoolDefaults)), Opts).

call_defaults() ->
    #{
        timeout => 30000,
        binaries => str,
        atoms => atom,
        traceback => false
    }.

call_option(Key, V) -> common_option(Key, V).

%% @doc The same for code that every worker of a pool runs.
-spec exec(term(), map()) -> map().
exec(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(fun exec_option/2, Opts),
    maps:merge(call(#{}, PoolDefaults), maps:merge(#{replay => true}, Opts)).

exec_option(replay, V) -> is_boolean(V);
exec_option(Key, V) -> common_option(Key, V).

common_option(pool, V) -> is_atom(V) orelse is_pid(V);
common_option(timeout, V) -> ?IS_MS(V);
common_option(binaries, V) -> V =:= str orelse V =:= bytes;
common_option(atoms, V) -> V =:= atom orelse V =:= str;
common_option(traceback, V) -> is_boolean(V);
common_option(_, _) -> false.

%% @doc The same for a pool.
-spec pool(term()) -> map().
pool(Opts) ->
    Map = map(Opts),
    checked(fun pool_option/2, Map),
    maps:merge(pool_defaults(), Map).

%% @doc The same for a worker of one's own.
-spec worker(term()) -> map().
worker(Opts) ->
    case map(Opts) of
        #{workers := Workers} -> error({badopt, {workers, Workers}});
        Map -> pool(Map)
    end.

pool_defaults() ->
    #{
        workers => erlang:system_info(schedulers_online),
        requirements => [],
        python_path => [],
        env => [],
        preload => [],
        max_streams => 10000,
        max_threads => 1024,
        thread => any,
        memory_limit => infinity,
        none => none,
        allow => all,
        interrupt_after => 1000,
        kill_after => infinity,
        start_timeout => 30000,
        stop_timeout => 5000,
        children => kill
    }.

pool_option(workers, V) -> ?IS_POS(V);
pool_option(python, V) -> py_text:is_native(V) andalso V =/= "" andalso V =/= <<>>;
pool_option(venv, V) -> py_paths:is_path(V);
pool_option(requirements, {Kind, V}) -> (Kind =:= file orelse Kind =:= project) andalso py_paths:is_path(V);
pool_option(requirements, V) -> is_list(V) andalso lists:all(fun py_text:is_native/1, V);
pool_option(python_path, V) -> is_list(V) andalso lists:all(fun is_on_path/1, V);
pool_option(env, V) -> is_list(V) andalso lists:all(fun variable/1, V);
pool_option(cd, V) -> py_paths:is_path(V);
pool_option(preload, V) -> is_list(V) andalso lists:all(fun is_text_or_atom/1, V);
pool_option(max_streams, V) -> ?IS_POS(V);
pool_option(max_threads, V) -> ?IS_POS(V);
pool_option(thread, V) -> V =:= any orelse V =:= main;
pool_option(memory_limit, V) -> V =:= infinity orelse ?IS_POS(V);
pool_option(none, V) -> lists:member(V, [none, nil, undefined]);
pool_option(binaries, V) -> V =:= str orelse V =:= bytes;
pool_option(atoms, V) -> V =:= atom orelse V =:= str;
pool_option(traceback, V) -> is_boolean(V);
pool_option(window, V) -> ?IS_POS(V);
pool_option(window_bytes, V) -> ?IS_POS(V);
pool_option(allow, V) -> V =:= all orelse (is_list(V) andalso lists:all(fun allowed/1, V));
pool_option(interrupt_after, V) -> ?IS_MS(V);
pool_option(kill_after, V) -> ?IS_MS(V);
pool_option(start_timeout, V) -> ?IS_MS(V);
pool_option(stop_timeout, V) -> ?IS_MS(V);
pool_option(children, V) -> V =:= kill orelse V =:= leave;
pool_option(_, _) -> false.

%% PYTHONPATH has no way to write a colon.
is_on_path(V) when is_tuple(V) -> py_paths:is_path(V);
is_on_path(V) -> py_paths:is_path(V) andalso string:find(filename:absname(V), ":") =:= nomatch.

is_text_or_atom(V) -> ?IS_TEXT(V) orelse is_atom(V).

variable({Name, false}) -> py_text:is_native(Name);
variable({Name, Value}) -> py_text:is_native(Name) andalso py_text:is_native(Value);
variable(_) -> false.

allowed({Module, Function}) -> is_text_or_atom(Module) andalso is_text_or_atom(Function);
allowed(Module) -> is_text_or_atom(Module).

checked(Check, Opts) ->
    maps:foreach(
        fun(Key, Value) ->
            Check(Key, Value) orelse error({badopt, {Key, Value}})
        end,
        Opts
    ).
