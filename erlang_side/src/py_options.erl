%% @doc Every option, its check and its default. An option that is not known,
%% or a value out of range, raises `error({badopt, {Key, Value}})'.
-module(py_options).

-export([call/2, channel/1, collect/2, enumerable/1, enumerable_eval/1, exec/2, pool/1, stream/2, worker/1]).
-export([map/1, request/1, timeout/1, given/1, destination/1, application/1]).
-export_type([call_options/0, channel_options/0, destination/0, list_of/1, pairs/0, flags/0, pool_options/0, stream_options/0]).

-type flags() :: #{binaries := str | bytes, atoms := atom | str, traceback := boolean(), _ => _}.
-type pairs() :: #{term() => term()} | [{term(), term()}].
%% Keyword arguments or local variables: keys are names, also as a list of pairs.
-type list_of(_Options) :: [{atom(), term()}].
%% The same options as a list of pairs, of which the first with a key counts.
-type destination() :: atom() | pid() | {atom(), node() | any | local_first | all}.
%% Which Python is meant: a pool's name, a worker's pid, or the pool of that name on another node, on any that is
%% free, or on this node if it is free there. `all', for {@link py:exec/2} and {@link py:info/1}, is every node's.
-type stream_options() :: #{
    owner => pid(),
    kwargs => pairs(),
    pool => destination(),
    window => pos_integer() | auto,
    window_bytes => pos_integer(),
    demand => non_neg_integer(),
    batch => pos_integer(),
    take => pos_integer(),
    format => term | msgpack | json,
    timeout => timeout(),
    binaries => str | bytes,
    atoms => atom | str,
    traceback => boolean(),
    metadata => map(),
    output => user | caller,
    profile => string() | binary()
}.
%% Options of `py:stream_start/4', `py:stream/5', `py:stream_eval/3', `py:enumerable/4' and
%% `py:enumerable_eval/3'.
%% <ul>
%% <li>`owner' (default: the caller): who gets the events; may be on another node. Not where the values are returned as a list, or walked.</li>
%% <li>`kwargs' (default: none): keyword arguments. `py:stream_start/4' and `py:enumerable/4' only; the others have an argument for it.</li>
%% <li>`pool' (default: `default'): which Python runs it: a name, the pid of a worker, or `{Name, Where}' with a node, `any' or
%% `local_first'.</li>
%% <li>`window' (default: `1024'): how many values may have been yielded and not yet taken from the owner's mailbox. On another
%% node the default is `auto': up to 65536, as the way there needs.</li>
%% <li>`window_bytes' (default: `4194304'): the same in encoded bytes.</li>
%% <li>`demand' (default: not set): pull mode: how many values may come now; more by `py:stream_demand/2'. Not where the values are returned as a list, or walked.</li>
%% <li>`batch' (default: not set): events are `{batch, Values}', with at most this many values.</li>
%% <li>`take' (default: not set): the stream ends with `done' after this many values, and the generator is closed.</li>
%% <li>`format' (default: `term'): what a value is when it arrives.</li>
%% <li>`timeout' (default: `infinity'): longest wait for the next event.</li>
%% <li>`binaries' (default: `str'): what binaries in the arguments become.</li>
%% <li>`atoms' (default: `atom'): what atoms in the arguments become: `erlang.Atom', or plain `str'.</li>
%% <li>`traceback' (default: `false'): errors are `{Class, Message, Traceback}'.</li>
%% <li>`metadata' (default: none): what goes with the request: `erlang.metadata()' in Python, log records, telemetry's events.</li>
%% <li>`output' (default: `user'): where what its code prints goes: to the node's `user', or to the group leader of the caller.</li>
%% <li>`profile' (default: none): the file that cProfile's profile of the request is written to.</li>
%% </ul>
-type call_options() :: #{
    pool => destination(),
    timeout => timeout(),
    binaries => str | bytes,
    atoms => atom | str,
    traceback => boolean(),
    metadata => map(),
    output => user | caller,
    profile => string() | binary(),
    return => value | handle,
    replay => boolean()
}.
%% Options of `py:call/5', `py:cast/5', `py:spawn_call/5', `py:eval/3' and `py:exec/2'.
%% <ul>
%% <li>`pool' (default: `default'): which Python runs it: a name, the pid of a worker, or `{Name, Where}' with a node, `any' or
%% `local_first'.</li>
%% <li>`timeout' (default: `30000'; `py:cast/5': `infinity'): longest wait for the result.</li>
%% <li>`binaries' (default: `str'): what binaries in the arguments become.</li>
%% <li>`atoms' (default: `atom'): what atoms in the arguments become: `erlang.Atom', or plain `str'.</li>
%% <li>`traceback' (default: `false'): errors are `{Class, Message, Traceback}'.</li>
%% <li>`metadata' (default: none): what goes with the request: `erlang.metadata()' in Python, log records, telemetry's events.</li>
%% <li>`output' (default: `user'): where what its code prints goes: to the node's `user', or to the group leader of the caller.</li>
%% <li>`profile' (default: none): the file that cProfile's profile of the request is written to.</li>
%% <li>`return' (default: `value'): `py:call/5' and `py:eval/3' only: with `handle' the result stays in its worker.</li>
%% <li>`replay' (default: `true'): `py:exec/2' only: whether a worker that is restarted runs the code again.</li>
%% </ul>
-type channel_options() :: #{
    owner => pid(),
    window => pos_integer(),
    window_bytes => pos_integer(),
    binaries => str | bytes,
    atoms => atom | str,
    notify => boolean()
}.
%% Options of `py:channel/1'.
%% <ul>
%% <li>`owner' (default: the caller): with whose end the channel ends.</li>
%% <li>`window' (default: `1024'): how many values may have been sent and not yet taken by Python.</li>
%% <li>`window_bytes' (default: `4194304'): the same in encoded bytes.</li>
%% <li>`binaries' (default: `str'): what binaries in the values become.</li>
%% <li>`atoms' (default: `atom'): what atoms in the values become: `erlang.Atom', or plain `str'.</li>
%% <li>`notify' (default: `false'): whether the owner gets `{py_channel, In, closed}' when Python reads no more.</li>
%% </ul>
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
    thread => any | main,
    memory_limit => pos_integer() | infinity,
    none => none | nil | undefined,
    binaries => str | bytes,
    atoms => atom | str,
    traceback => boolean(),
    output => user | caller,
    window => pos_integer() | auto,
    window_bytes => pos_integer(),
    allow => all | [py_name:name() | {py_name:name(), py_name:name()}],
    interrupt_after => timeout(),
    interrupt_grace => timeout(),
    kill_after => timeout(),
    deaf_after => pos_integer() | infinity,
    start_timeout => timeout(),
    stop_timeout => timeout(),
    worker_wait => timeout(),
    max_requests => pos_integer() | infinity,
    max_age => pos_integer() | infinity,
    max_rss => pos_integer() | infinity,
    reload => boolean(),
    children => kill | leave,
    cluster => boolean(),
    caller_functions => boolean()
}.
%% Options of `py:start_pool/2' and, without what is not for a worker of one's own, of `py:start_worker/1,2'.
%% <ul>
%% <li>`workers' (default: one for each scheduler online, at most 4): how many Python processes. Not for a worker of one's own.</li>
%% <li>`python' (default: the application's `python', else `$ERLANG_PYTHON', else `python3'): the interpreter.</li>
%% <li>`venv' (default: not set): the virtual environment that the workers run in.</li>
%% <li>`requirements' (default: `[]'): what the pool installs into `venv' before it starts.</li>
%% <li>`python_path' (default: `[]'): where modules are looked for first.</li>
%% <li>`env' (default: `[]'): variables of the environment; `false' removes one.</li>
%% <li>`cd' (default: the node's directory): the current directory of the workers.</li>
%% <li>`preload' (default: `[]'): modules that a worker imports before it takes requests.</li>
%% <li>`max_streams' (default: `10000'): streams of one worker at a time; one more is `{error, overloaded}'.</li>
%% <li>`max_threads' (default: `1024'): calls and sync streams that one worker runs at a time; more wait.</li>
%% <li>`thread' (default: `any'): where calls and sync generators run: `main' is Python's main thread, one at a time.</li>
%% <li>`memory_limit' (default: `infinity'): bytes that a worker may allocate beside those that it starts with.</li>
%% <li>`none' (default: `none'): the atom that `None' becomes.</li>
%% <li>`allow' (default: `all'): what may be called.</li>
%% <li>`interrupt_after' (default: `1000'): how long cancelled code may go on until it is interrupted.</li>
%% <li>`interrupt_grace' (default: `5000'): how long code that was interrupted may clean up until the next
%% interrupt.</li>
%% <li>`kill_after' (default: `infinity'): how long after the cancel it may go on until the worker is replaced.</li>
%% <li>`deaf_after' (default: `infinity'): how long a worker with work may not answer until it is replaced; noticed by a check every five seconds.</li>
%% <li>`start_timeout' (default: `30000'): how long a worker may take until it is ready.</li>
%% <li>`stop_timeout' (default: `5000'): how long a worker that is stopped may take to leave, until it is killed.</li>
%% <li>`worker_wait' (default: `5000'): how long a request waits for a worker where the pool has none.</li>
%% <li>`max_requests' (default: `infinity'): after how many requests a worker is recycled, or up to a fifth fewer by chance. Not for a worker of one's own.</li>
%% <li>`max_age' (default: `infinity'): the same in milliseconds. Not for a worker of one's own.</li>
%% <li>`max_rss' (default: `infinity'): the same in bytes of resident memory, which is read every few seconds. Not for a worker of one's own.</li>
%% <li>`reload' (default: `false'): whether a worker is recycled when a file changes that it has imported from `python_path'; for development. Not for a
%% worker of one's own.</li>
%% <li>`children' (default: `kill'): what becomes of processes that user code started, when their worker ends.</li>
%% <li>`caller_functions' (default: `true'): whether code that runs for a stream or a call of another node finds the functions
%% registered there.</li>
%% <li>`cluster' (default: `false'): whether the pool takes requests for `{Name, any}' from every node of the cluster. Not
%% for a worker of one's own.</li>
%% <li>`window' (default: `1024'): the default for the pool's streams; for those of another node `auto'.</li>
%% <li>`window_bytes' (default: `4194304'): the default for the pool's streams.</li>
%% <li>`binaries' (default: `str'): the default for the pool's streams and calls.</li>
%% <li>`atoms' (default: `atom'): the default for the pool's streams and calls.</li>
%% <li>`traceback' (default: `false'): the default for the pool's streams and calls.</li>
%% <li>`output' (default: `user'): the default for the pool's streams and calls.</li>
%% </ul>

%% No timer and no `receive' takes more milliseconds, which are 49 days.
-define(IS_MS(V), (V =:= infinity orelse (is_integer(V) andalso V >= 0 andalso V =< 16#ffffffff))).
-define(IS_POS(V), (is_integer(V) andalso V > 0 andalso V < 16#8000000000000000)).
-define(IS_TEXT(V), (is_list(V) orelse is_binary(V))).

%% @private
%% @doc Options, or whatever else has pairs of keys and values, as a map.
-spec map(term()) -> map().
map(Opts) when is_map(Opts) ->
    Opts;
map(Opts) ->
    try
        maps:from_list(lists:reverse(Opts))
    catch
        error:_ -> py_badopt:raise(options, Opts)
    end.

%% @private
%% @doc The same for options, or a timeout alone.
-spec request(term()) -> map().
request(Opts) when is_map(Opts); is_list(Opts) -> map(Opts);
request(Timeout) -> #{timeout => Timeout}.

%% @private
%% @doc Checks a time to wait.
-spec timeout(term()) -> timeout().
timeout(Ms) when ?IS_MS(Ms) -> Ms;
timeout(Ms) -> py_badopt:raise(timeout, Ms).

%% @private
%% @doc Of checked options those that the pool's node needs to know.
-spec given(map()) -> map().
given(Opts) ->
    maps:without([owner, kwargs, pool, timeout, given], maps:get(given, Opts, Opts)).

%% @private
%% @doc Checks the name of a pool.
-spec destination(term()) -> destination().
destination(V) ->
    is_destination(V) orelse py_badopt:raise(pool, V),
    V.

is_destination({Name, Where}) -> is_atom(Name) andalso is_atom(Where);
is_destination(V) -> is_atom(V) orelse is_pid(V).

%% @private
%% @doc Checks what the application's environment holds. A name that is misspelt would otherwise be a
%% default in silence.
-spec application([{atom(), term()}]) -> ok.
application(Env) ->
    checked(application, fun application_option/2, maps:from_list(Env)).

application_option(pools, V) -> is_map(V) orelse is_list(V);
application_option(python, V) -> pool_option(python, V);
application_option(drain_timeout, V) -> ?IS_MS(V);
application_option(max_callbacks, V) -> ?IS_POS(V);
application_option(liveness_ms, V) -> ?IS_MS(V) andalso V =/= 0 andalso V =/= infinity;
application_option(_, _) -> false.

%% @private
%% @doc Checks the options of a stream and fills in the defaults, the pool's first.
-spec stream(term(), map()) -> map().
stream(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(stream, fun stream_option/2, Opts),
    maps:merge(maps:merge(stream_defaults(), PoolDefaults), Opts).

stream_defaults() ->
    #{
        window => 1024,
        window_bytes => 4 * 1024 * 1024,
        format => term,
        timeout => infinity,
        binaries => str,
        atoms => atom,
        traceback => false,
        output => user
    }.

%% @private
%% @doc The same for a stream that is collected, which has neither an owner nor events to ask for.
-spec collect(term(), map()) -> map().
collect(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(collect, fun collect_option/2, Opts),
    stream(Opts, PoolDefaults).

collect_option(owner, _) -> false;
collect_option(demand, _) -> false;
%% They have an argument of their own.
collect_option(kwargs, _) -> false;
collect_option(Key, V) -> stream_option(Key, V).

%% @private
%% @doc The same for a stream that is walked as an enumerable. Defaults are filled in by each walk.
-spec enumerable(term()) -> map().
enumerable(Given) ->
    enumerable(enumerable, fun enumerable_option/2, Given).

%% @private
%% @doc The same for one of an expression.
-spec enumerable_eval(term()) -> map().
enumerable_eval(Given) ->
    enumerable(enumerable_eval, fun collect_option/2, Given).

%% A message for many values, since the walk hands them on one by one.
enumerable(Kind, Check, Given) ->
    Opts = map(Given),
    checked(Kind, Check, Opts),
    maps:merge(#{batch => 1024}, Opts).

enumerable_option(owner, _) -> false;
enumerable_option(demand, _) -> false;
enumerable_option(Key, V) -> stream_option(Key, V).

stream_option(owner, V) -> is_pid(V);
stream_option(kwargs, V) -> is_map(V) orelse is_list(V);
stream_option(demand, V) -> V =:= 0 orelse ?IS_POS(V);
stream_option(batch, V) -> ?IS_POS(V);
stream_option(take, V) -> ?IS_POS(V);
stream_option(format, V) -> lists:member(V, [term, msgpack, json]);
stream_option(window, V) -> V =:= auto orelse ?IS_POS(V);
stream_option(window_bytes, V) -> ?IS_POS(V);
stream_option(Key, V) -> common_option(Key, V).

%% @private
%% @doc The same for a channel.
-spec channel(term()) -> map().
channel(Given) ->
    Opts = map(Given),
    checked(channel, fun channel_option/2, Opts),
    maps:merge(channel_defaults(), Opts).

channel_defaults() ->
    #{
        window => 1024,
        window_bytes => 4 * 1024 * 1024,
        binaries => str,
        atoms => atom,
        notify => false
    }.

channel_option(owner, V) -> is_pid(V);
channel_option(window, V) -> ?IS_POS(V);
channel_option(window_bytes, V) -> ?IS_POS(V);
channel_option(binaries, V) -> V =:= str orelse V =:= bytes;
channel_option(atoms, V) -> V =:= atom orelse V =:= str;
channel_option(notify, V) -> is_boolean(V);
channel_option(_, _) -> false.

%% @private
%% @doc The same for a call, an evaluation or an execution.
-spec call(term(), map()) -> map().
call(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(call, fun call_option/2, Opts),
    Defaults = #{
        timeout => 30000,
        binaries => maps:get(binaries, PoolDefaults, str),
        atoms => maps:get(atoms, PoolDefaults, atom),
        traceback => maps:get(traceback, PoolDefaults, false),
        output => maps:get(output, PoolDefaults, user),
        return => value
    },
    maps:merge(Defaults, Opts).

call_option(return, V) -> V =:= value orelse V =:= handle;
call_option(Key, V) -> common_option(Key, V).

%% @private
%% @doc The same for code that every worker of a pool runs.
-spec exec(term(), map()) -> map().
exec(Given, PoolDefaults) ->
    Opts = map(Given),
    checked(exec, fun exec_option/2, Opts),
    maps:merge(call(#{}, PoolDefaults), maps:merge(#{replay => true}, Opts)).

exec_option(replay, V) -> is_boolean(V);
%% It has no result.
exec_option(return, V) -> V =:= value;
exec_option(pool, {_, all} = V) -> is_destination(V);
exec_option(Key, V) -> common_option(Key, V).

common_option(pool, {_, all}) -> false;
common_option(pool, V) -> is_destination(V);
common_option(timeout, V) -> ?IS_MS(V);
common_option(binaries, V) -> V =:= str orelse V =:= bytes;
common_option(atoms, V) -> V =:= atom orelse V =:= str;
common_option(traceback, V) -> is_boolean(V);
common_option(metadata, V) -> is_map(V);
common_option(output, V) -> V =:= user orelse V =:= caller;
common_option(profile, V) -> is_text(V);
common_option(_, _) -> false.

%% @private
%% @doc The same for a pool.
-spec pool(term()) -> map().
pool(Opts) ->
    pool(pool, map(Opts)).

pool(Kind, Map) ->
    checked(Kind, fun pool_option/2, Map),
    maps:merge(pool_defaults(), Map).

%% @private
%% @doc The same for a worker of one's own.
-spec worker(term()) -> map().
worker(Opts) ->
    Map = map(Opts),
    case maps:to_list(maps:without(maps:keys(py_badopt:allowed(worker)), Map)) of
        [{Key, Value} | _] -> py_badopt:raise(worker, Key, Value);
        [] -> pool(worker, Map)
    end.

pool_defaults() ->
    #{
        %% More would take memory for little: a worker runs many requests at once.
        workers => min(4, erlang:system_info(schedulers_online)),
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
        interrupt_grace => 5000,
        kill_after => infinity,
        deaf_after => infinity,
        start_timeout => 30000,
        stop_timeout => 5000,
        worker_wait => 5000,
        max_requests => infinity,
        max_age => infinity,
        max_rss => infinity,
        reload => false,
        children => kill,
        cluster => false,
        caller_functions => true
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
pool_option(output, V) -> V =:= user orelse V =:= caller;
pool_option(window, V) -> V =:= auto orelse ?IS_POS(V);
pool_option(window_bytes, V) -> ?IS_POS(V);
pool_option(allow, V) -> V =:= all orelse (is_list(V) andalso lists:all(fun allowed/1, V));
pool_option(interrupt_after, V) -> ?IS_MS(V);
pool_option(interrupt_grace, V) -> ?IS_MS(V);
pool_option(kill_after, V) -> ?IS_MS(V);
pool_option(deaf_after, V) -> ?IS_MS(V) andalso V =/= 0;
pool_option(start_timeout, V) -> ?IS_MS(V);
pool_option(stop_timeout, V) -> ?IS_MS(V);
pool_option(worker_wait, V) -> ?IS_MS(V);
pool_option(max_requests, V) -> V =:= infinity orelse ?IS_POS(V);
pool_option(max_age, V) -> ?IS_MS(V) andalso V =/= 0;
pool_option(max_rss, V) -> V =:= infinity orelse ?IS_POS(V);
pool_option(reload, V) -> is_boolean(V);
pool_option(children, V) -> V =:= kill orelse V =:= leave;
pool_option(cluster, V) -> is_boolean(V);
pool_option(caller_functions, V) -> is_boolean(V);
pool_option(_, _) -> false.

%% PYTHONPATH has no way to write a colon.
is_on_path(V) when is_tuple(V) -> py_paths:is_path(V);
is_on_path(V) -> py_paths:is_path(V) andalso string:find(filename:absname(V), ":") =:= nomatch.

%% A file's name, which 65535 bytes are enough for.
is_text(V) ->
    try unicode:characters_to_binary(V) of
        Name -> is_binary(Name) andalso Name =/= <<>> andalso byte_size(Name) < 65536
    catch
        error:badarg -> false
    end.

is_text_or_atom(V) -> ?IS_TEXT(V) orelse is_atom(V).

variable({Name, false}) -> is_variable(Name);
variable({Name, Value}) -> is_variable(Name) andalso py_text:is_native(Value);
variable(_) -> false.

%% What the system takes for one.
is_variable(Name) ->
    py_text:is_native(Name) andalso not string:is_empty(Name) andalso string:find(Name, "=") =:= nomatch.

allowed({Module, Function}) -> is_text_or_atom(Module) andalso is_text_or_atom(Function);
allowed(Module) -> is_text_or_atom(Module).

checked(Kind, Check, Opts) ->
    maps:foreach(
        fun(Key, Value) ->
            Check(Key, Value) orelse py_badopt:raise(Kind, Key, Value)
        end,
        Opts
    ).
