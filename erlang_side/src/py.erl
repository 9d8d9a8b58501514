%% @doc Python from Erlang: streams, calls and code.
%%
%% A Python generator becomes a sequence of messages `{py_stream, Ref, Event}'.
%% Module and function names are atoms, binaries or strings; options are maps,
%% whose types are in {@link py_options}; reasons are in {@link py_error}.
-module(py).
-compile({no_auto_import, [nodes/1]}).

-include("py_worker.hrl").
-include("py_cluster.hrl").

%% Streams.
-export([
    stream_start/3, stream_start/4,
    stream_cancel/1, stream_cancel/2,
    stream_demand/2,
    stream_next/1, stream_next/2,
    stream_fold/3,
    stream/3, stream/4, stream/5,
    stream_eval/1, stream_eval/2, stream_eval/3,
    enumerable/3, enumerable/4,
    enumerable_eval/1, enumerable_eval/2, enumerable_eval/3,
    foreach/2
]).
%% Streams into Python.
-export([channel/0, channel/1, channel_send/2, channel_send/3, channel_close/1]).
%% Code and calls.
-export([
    exec/1, exec/2,
    eval/1, eval/2, eval/3,
    call/3, call/4, call/5,
    cast/3, cast/4, cast/5,
    spawn_call/3, spawn_call/4, spawn_call/5,
    await/1, await/2,
    release/1,
    version/0, version/1,
    format_error/1
]).
%% What Python code may call.
-export([register_function/2, register_function/3, unregister_function/1, functions/0]).
%% Pools and workers of one's own.
-export([start_pool/2, stop_pool/1, stop_pool/2, pool_spec/2, drain/2, resume/1, restart_workers/1, nodes/1]).
-export([info/0, info/1, i/0, i/1, stack_traces/1, stacks/1]).
-export([start_worker/1, start_worker/2, start_worker/3, stop_worker/1, child_spec/1, child_spec/2]).

-export_type([event/0, pool_info/0]).

%% How long the nodes of a cluster may take to say how their pools are.
-define(INFO_MS, 5000).

-type name() :: py_name:name().
-type pairs() :: py_options:pairs().
-type options(Map) :: Map | py_options:list_of(Map).
-type event() ::
    {data, term()} | {batch, [term(), ...]} | done | {error, py_error:reason()}.
%% What an owner gets, as `{py_stream, Ref, Event}'. `done' and `{error, _}' are
%% terminal: there is exactly one, and nothing comes after it.

-type pool_info() :: py_pool_info:info().
%% The keys are in {@link py_pool_info}.

%%% Streams.

%% @equiv stream_start(M, F, Args, #{})
-spec stream_start(name() | py_handle:handle(), name(), [term()]) ->
    {ok, reference()} | {error, py_error:reason()}.
stream_start(M, F, Args) ->
    stream_start(M, F, Args, #{}).

%% @doc Starts a stream of what `M:F' returns, a generator or any other iterator
%% or iterable, sync or async. Returns at once; all else is an event. Errors:
%% `overloaded', `draining', `{no_pool, Name}'. Where no worker lives it waits for one, see `worker_wait'.
-spec stream_start(name() | py_handle:handle(), name(), [term()], options(py_options:stream_options())) ->
    {ok, reference()} | {error, py_error:reason()}.
stream_start(M, F, Args, Opts) ->
    ToTarget = fun(Checked) -> py_call:function(M, F, Args, maps:get(kwargs, Checked, #{})) end,
    with_place(M, [Args], py_options:map(Opts), stream, ToTarget, fun start_stream/3).

start_stream(Where, Target, Opts) ->
    reserved(Where, fun() ->
        Ref = make_ref(),
        _ = py_stream:start(Where, Target, Ref, maps:merge(#{owner => self()}, Opts)),
        {ok, Ref}
    end).

reserved(Where, Fun) ->
    case reserve(Where) of
        ok ->
            try
                Fun()
            catch
                %% The node has as many processes as it may have.
                error:system_limit ->
                    unreserve(Where),
                    {error, system_limit}
            end;
        Error ->
            Error
    end.

%% On another node it is the relay that reserves.
reserve(#worker{} = Worker) ->
    py_load:reserve(stream, Worker);
reserve(_Route) ->
    case py_pool:is_running() of
        true -> ok;
        false -> {error, {not_started, erlang_python}}
    end.

unreserve(#worker{} = Worker) -> py_load:release(stream, Worker);
unreserve(_Route) -> ok.

%% @doc Cancels a stream: its owner gets `{error, cancelled}' at once, unless it
%% has had its terminal event, and the generator is closed at its next `yield'.
%% From any process, any number of times, for any reference.
-spec stream_cancel(reference()) -> ok.
stream_cancel(Ref) ->
    stream_cancel(Ref, []).

%% @doc With `[flush]', no event of `Ref' is in the caller's mailbox afterwards,
%% nor will one come.
-spec stream_cancel(reference(), [flush]) -> ok.
stream_cancel(Ref, Opts) when node(Ref) =/= node() ->
    check_cancel(Opts),
    try
        erpc:call(node(Ref), py, stream_cancel, [Ref, Opts])
    catch
        error:{erpc, noconnection} -> ok
    end,
    Opts =:= [flush] andalso flush(Ref),
    ok;
stream_cancel(Ref, []) when is_reference(Ref) ->
    py_streams:cancel(Ref);
stream_cancel(Ref, [flush]) when is_reference(Ref) ->
    py_streams:cancel_flush(Ref),
    flush(Ref);
stream_cancel(_Ref, Opts) ->
    check_cancel(Opts).

check_cancel(Opts) ->
    lists:member(Opts, [[], [flush]]) orelse py_badopt:raise(cancel, Opts).

flush(Ref) ->
    receive
        {py_stream, Ref, _} -> flush(Ref)
    after 0 -> ok
    end.

%% @doc Lets `N' more values through on a stream that was started with `demand'.
-spec stream_demand(reference(), pos_integer()) -> ok.
stream_demand(Ref, N) when is_integer(N), N > 0, node(Ref) =/= node() ->
    erpc:cast(node(Ref), py, stream_demand, [Ref, N]);
stream_demand(Ref, N) when is_reference(Ref), is_integer(N), N > 0 ->
    py_streams:demand(Ref, N);
stream_demand(_Ref, N) ->
    py_badopt:raise(demand, N).

%% @equiv stream_next(Ref, infinity)
-spec stream_next(reference()) -> {ok, term()} | done | {error, py_error:reason()}.
stream_next(Ref) ->
    case stream_next(Ref, infinity) of
        Event when Event =/= timeout -> Event
    end.

%% @doc Takes the next event out of the caller's mailbox: `{ok, Value}', or
%% `{ok, Values}' for a stream with `batch'; `done'; `{error, Reason}'; `timeout'
%% after `Timeout' milliseconds, which ends nothing.
%% Another process than the owner gets `error({not_owner, Ref})'.
-spec stream_next(reference(), timeout()) ->
    {ok, term()} | done | {error, py_error:reason()} | timeout.
stream_next(Ref, Timeout) ->
    case next_event(Ref, py_options:timeout(Timeout)) of
        {data, Value} -> {ok, Value};
        {batch, Values} -> {ok, Values};
        Other -> Other
    end.

%% An event that is there was sent to this process. To wait for one is for the owner.
next_event(Ref, Timeout) ->
    receive
        {py_stream, Ref, Event} -> Event
    after 0 ->
        check_owner(Ref),
        receive
            {py_stream, Ref, Event} -> Event
        after Timeout -> timeout
        end
    end.

%% The node of the stream knows its owner; another node does not ask for each event.
check_owner(Ref) ->
    Owner = py_streams:owner(Ref),
    Owner =:= none orelse Owner =:= self() orelse error({not_owner, Ref}).

%% @doc Folds over a stream whose owner is the caller. `Fun(Value, Acc)' returns
%% `{cont, Acc}', or `{halt, Acc}', which cancels the stream and flushes, as does a `Fun' that
%% raises. Another process than the owner gets `error({not_owner, Ref})'.
-spec stream_fold(fun((term(), Acc) -> {cont, Acc} | {halt, Acc}), Acc, reference()) ->
    {ok, Acc} | {error, py_error:reason(), Acc}.
stream_fold(Fun, Acc, Ref) ->
    case next_event(Ref, infinity) of
        {data, Value} -> fold([Value], Fun, Acc, Ref);
        {batch, Values} -> fold(Values, Fun, Acc, Ref);
        done -> {ok, Acc};
        {error, Reason} -> {error, Reason, Acc}
    end.

fold([], Fun, Acc, Ref) ->
    stream_fold(Fun, Acc, Ref);
fold([Value | Rest], Fun, Acc, Ref) ->
    try Fun(Value, Acc) of
        {cont, NewAcc} ->
            fold(Rest, Fun, NewAcc, Ref);
        {halt, NewAcc} ->
            stream_cancel(Ref, [flush]),
            {ok, NewAcc};
        Other ->
            stream_cancel(Ref, [flush]),
            error({bad_return_value, Other})
    catch
        Class:Reason:Stack ->
            stream_cancel(Ref, [flush]),
            erlang:raise(Class, Reason, Stack)
    end.

%% @equiv stream(M, F, Args, #{}, #{})
-spec stream(name() | py_handle:handle(), name(), [term()]) -> {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args) ->
    stream(M, F, Args, #{}, #{}).

%% @equiv stream(M, F, Args, Kwargs, #{})
-spec stream(name() | py_handle:handle(), name(), [term()], pairs()) -> {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args, Kwargs) ->
    stream(M, F, Args, Kwargs, #{}).

%% @doc All that `M:F' yields, as a list. Leaves nothing in the mailbox.
-spec stream(name() | py_handle:handle(), name(), [term()], pairs(), timeout() | options(py_options:stream_options())) ->
    {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args, Kwargs, Opts) ->
    ToTarget = fun(_) -> py_call:function(M, F, Args, Kwargs) end,
    with_place(M, [Args, Kwargs], py_options:request(Opts), collect, ToTarget, fun collect/3).

%% @equiv stream_eval(Code, #{}, #{})
-spec stream_eval(unicode:chardata()) -> {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code) ->
    stream_eval(Code, #{}, #{}).

%% @equiv stream_eval(Code, Locals, #{})
-spec stream_eval(unicode:chardata(), pairs()) -> {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code, Locals) ->
    stream_eval(Code, Locals, #{}).

%% @doc The same for what an expression evaluates to.
-spec stream_eval(unicode:chardata(), pairs(), timeout() | options(py_options:stream_options())) ->
    {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code, Locals, Opts) ->
    ToTarget = fun(_) -> py_call:expression(Code, Locals) end,
    with_place(eval, [Locals], py_options:request(Opts), collect, ToTarget, fun collect/3).

collect(Where, Target, Opts) ->
    reserved(Where, fun() -> py_stream:collect(Where, Target, make_ref(), Opts) end).

%% @equiv enumerable(M, F, Args, #{})
-spec enumerable(name() | py_handle:handle(), name(), [term()]) -> py_enumerable:enumerable().
enumerable(M, F, Args) ->
    enumerable(M, F, Args, #{}).

%% @doc A fun of two arguments by the reduce protocol of Elixir's `Enumerable': all of `Enum' and
%% `Stream' works on it. Each walk starts the generator anew, in the process that walks, and what
%% ends a walk early closes it: a `halt', and an exception of the consumer's. A Python exception is
%% `error({Class, Message})', and so are other reasons. `Opts' are those of {@link stream_start/4}
%% without `owner' and `demand'; `batch' says only how many values come in one message.
%%
%% `Enumerable({cont, Acc}, fun(Value, Acc) -> {cont | halt | suspend, Acc} end)' is `{done, Acc}',
%% `{halted, Acc}' or `{suspended, Acc, Continue}'. `Continue' is called once, in the same process.
-spec enumerable(name() | py_handle:handle(), name(), [term()], options(py_options:stream_options())) ->
    py_enumerable:enumerable().
enumerable(M, F, Args, Opts) ->
    Checked = py_options:enumerable(Opts),
    _ = py_call:function(M, F, Args, #{}),
    walked(fun() -> stream_start(M, F, Args, Checked) end).

%% @equiv enumerable_eval(Code, #{}, #{})
-spec enumerable_eval(unicode:chardata()) -> py_enumerable:enumerable().
enumerable_eval(Code) ->
    enumerable_eval(Code, #{}, #{}).

%% @equiv enumerable_eval(Code, Locals, #{})
-spec enumerable_eval(unicode:chardata(), pairs()) -> py_enumerable:enumerable().
enumerable_eval(Code, Locals) ->
    enumerable_eval(Code, Locals, #{}).

%% @doc The same for what an expression evaluates to, each time it is walked.
-spec enumerable_eval(unicode:chardata(), pairs(), options(py_options:stream_options())) ->
    py_enumerable:enumerable().
enumerable_eval(Code, Locals, Opts) ->
    Checked = py_options:enumerable_eval(Opts),
    Text = py_text:utf8(code, Code),
    _ = py_name:locals(Locals),
    walked(fun() ->
        with_pool(Checked, stream, fun(_) -> py_call:expression(Text, Locals) end, fun start_stream/3)
    end).

walked(Start) ->
    py_enumerable:new(Start, fun(Ref) -> stream_cancel(Ref, [flush]) end).

%% @doc Calls `Fun' with each value of an enumerable, or of a stream whose owner is the caller. A
%% stream that fails returns its error; an enumerable raises it, as whenever it is walked. When
%% `Fun' raises, the generator is closed.
-spec foreach(fun((term()) -> term()), py_enumerable:enumerable() | reference()) ->
    ok | {error, py_error:reason()}.
foreach(Fun, Ref) when is_reference(Ref) ->
    Each = fun(Value, ok) ->
        _ = Fun(Value),
        {cont, ok}
    end,
    case stream_fold(Each, ok, Ref) of
        {ok, ok} -> ok;
        {error, Reason, ok} -> {error, Reason}
    end;
foreach(Fun, Enumerable) when is_function(Enumerable, 2) ->
    py_enumerable:foreach(Fun, Enumerable).

%%% Streams into Python.

%% @equiv channel(#{})
-spec channel() -> {ok, py_channel:channel()}.
channel() ->
    channel(#{}).

%% @doc A channel: what is sent into it comes out of an iterator in Python. Given as an argument,
%% at any depth, it arrives as an `erlang.Channel', an iterator and an async iterator; one worker
%% reads it. It ends with its owner: when that fails, Python gets an exception.
-spec channel(options(py_options:channel_options())) -> {ok, py_channel:channel()}.
channel(Opts) ->
    {ok, py_channel:start(maps:merge(#{owner => self()}, py_options:channel(Opts)))}.

%% @equiv channel_send(In, Value, infinity)
-spec channel_send(py_channel:channel(), term()) -> ok | {error, closed}.
channel_send(In, Value) ->
    case py_channel:send(In, Value, infinity) of
        Result when Result =/= {error, timeout} -> Result
    end.

%% @doc Sends a value, from any process. Returns when it fits the window: while as many values
%% as the window allows were not taken, it waits, for `Timeout' milliseconds at most; then
%% `{error, timeout}', and the value was not sent. `{error, closed}' when Python reads no more, or the
%% channel was closed.
-spec channel_send(py_channel:channel(), term(), timeout()) -> ok | {error, closed | timeout}.
channel_send(In, Value, Timeout) ->
    py_channel:send(In, Value, py_options:timeout(Timeout)).

%% @doc Ends a channel: the iterator ends after what was sent before. From any process, any number
%% of times.
-spec channel_close(py_channel:channel()) -> ok.
channel_close(In) ->
    py_channel:close(In).

%%% Code and calls.

%% @equiv exec(Code, #{})
-spec exec(unicode:chardata()) -> ok | {error, py_error:reason()}.
exec(Code) ->
    exec(Code, #{}).

%% @doc Runs code in `__main__' of every worker of the pool, and again in a
%% worker that is restarted, unless `replay' is `false'.
-spec exec(unicode:chardata(), options(py_options:call_options())) -> ok | {error, py_error:reason()}.
exec(Code, Opts) ->
    Map = py_options:map(Opts),
    Text = py_text:utf8(code, Code),
    _ = py_options:exec(Map, #{}),
    at(pool(Map), fun(Pool) -> {exec, Pool, Text, maps:remove(pool, Map)} end).

%% @equiv eval(Code, #{})
-spec eval(unicode:chardata()) -> {ok, term()} | {error, py_error:reason()}.
eval(Code) ->
    eval(Code, #{}, #{}).

%% @equiv eval(Code, Locals, #{})
-spec eval(unicode:chardata(), pairs()) -> {ok, term()} | {error, py_error:reason()}.
eval(Code, Locals) ->
    eval(Code, Locals, #{}).

%% @doc Evaluates an expression in `__main__', with local variables by name.
-spec eval(unicode:chardata(), pairs(), timeout() | options(py_options:call_options())) ->
    {ok, term()} | {error, py_error:reason()}.
eval(Code, Locals, Opts) ->
    result(eval, [Locals], py_options:request(Opts), fun(_) -> py_call:expression(Code, Locals) end).

%% What a call returns, or a handle of it.
result(Called, Values, Opts = #{return := handle}, ToTarget) ->
    py_handle:make(fun() -> start_call(Called, Values, Opts, ToTarget) end);
result(Called, Values, Opts, ToTarget) ->
    with_place(Called, Values, Opts, call, ToTarget, fun run/3).

run(#worker{} = Worker, Target, Opts) -> py_call:run(Worker, Target, Opts);
run(Route, Target, Opts) -> py_async_call:run(Route, Target, Opts).

%% @equiv call(M, F, Args, #{})
-spec call(name() | py_handle:handle(), name(), [term()]) -> {ok, term()} | {error, py_error:reason()}.
call(M, F, Args) ->
    call(M, F, Args, #{}, #{}).

%% @equiv call(M, F, Args, Kwargs, #{})
-spec call(name() | py_handle:handle(), name(), [term()], pairs()) -> {ok, term()} | {error, py_error:reason()}.
call(M, F, Args, Kwargs) ->
    call(M, F, Args, Kwargs, #{}).

%% @doc Calls a function and waits for its result, 30,000 ms unless `Opts' say
%% otherwise; then `{error, timeout}', and the Python code is interrupted. An
%% `async def' is awaited. With `return => handle' the result stays in its worker, and a handle of
%% it is returned, which is an argument or what is called: `py:call(Handle, Method, Args)'.
-spec call(name() | py_handle:handle(), name(), [term()], pairs(), timeout() | options(py_options:call_options())) ->
    {ok, term()} | {error, py_error:reason()}.
call(M, F, Args, Kwargs, Opts) ->
    result(M, [Args, Kwargs], py_options:request(Opts), fun(_) -> py_call:function(M, F, Args, Kwargs) end).

%% @equiv cast(M, F, Args, #{}, #{})
-spec cast(name() | py_handle:handle(), name(), [term()]) -> ok.
cast(M, F, Args) ->
    cast(M, F, Args, #{}, #{}).

%% @equiv cast(M, F, Args, Kwargs, #{})
-spec cast(name() | py_handle:handle(), name(), [term()], pairs()) -> ok.
cast(M, F, Args, Kwargs) ->
    cast(M, F, Args, Kwargs, #{}).

%% @doc Calls a function and returns at once. Nobody learns its result, and a
%% failure is logged. It has no time limit unless one is given.
-spec cast(name() | py_handle:handle(), name(), [term()], pairs(), timeout() | options(py_options:call_options())) -> ok.
cast(M, F, Args, Kwargs, Opts) ->
    Timed = maps:merge(#{timeout => infinity}, value_only(Opts)),
    ToTarget = fun(_) -> py_call:function(M, F, Args, Kwargs) end,
    case with_place(M, [Args, Kwargs], Timed, call, ToTarget, fun py_async_call:cast/3) of
        ok -> ok;
        {error, Reason} ->
            Pool = pool(py_options:request(Opts)),
            py_log:cast_failed(Reason, Pool, {M, F}, Pool, none)
    end.

%% @equiv spawn_call(M, F, Args, #{}, #{})
-spec spawn_call(name() | py_handle:handle(), name(), [term()]) -> reference().
spawn_call(M, F, Args) ->
    spawn_call(M, F, Args, #{}, #{}).

%% @equiv spawn_call(M, F, Args, Kwargs, #{})
-spec spawn_call(name() | py_handle:handle(), name(), [term()], pairs()) -> reference().
spawn_call(M, F, Args, Kwargs) ->
    spawn_call(M, F, Args, Kwargs, #{}).

%% @doc Calls a function and returns at once; its result is for {@link await/2}, in
%% the same process. It comes as the message `{Ref, Result}', so a process that
%% takes all its mail, such as a gen_server, can take it from there instead. When
%% the process ends first, the Python code is interrupted.
-spec spawn_call(name() | py_handle:handle(), name(), [term()], pairs(), timeout() | options(py_options:call_options())) ->
    reference().
spawn_call(M, F, Args, Kwargs, Opts) ->
    start_call(M, [Args, Kwargs], value_only(Opts), fun(_) -> py_call:function(M, F, Args, Kwargs) end).

%% The owner of a handle is who waits for it.
value_only(Opts) ->
    case py_options:request(Opts) of
        #{return := Return} when Return =/= value -> py_badopt:raise(return, Return);
        Request -> Request
    end.

start_call(Called, Values, Opts, ToTarget) ->
    Spawn = fun(Where, Target, Checked) ->
        case py_pool:is_running() of
            true -> py_async_call:spawn_call(Where, Target, Checked);
            false -> {error, {not_started, erlang_python}}
        end
    end,
    case with_place(Called, Values, Opts, call, ToTarget, Spawn) of
        {error, Reason} ->
            Ref = make_ref(),
            self() ! {Ref, {error, Reason}},
            Ref;
        Ref ->
            Ref
    end.

%% @equiv await(Ref, infinity)
-spec await(reference()) -> {ok, term()} | {error, py_error:reason()}.
await(Ref) ->
    await(Ref, infinity).

%% @doc Waits for the result of {@link spawn_call/5}. After `Timeout' milliseconds it
%% is `{error, timeout}', the Python code is interrupted, and no result comes later.
-spec await(reference(), timeout()) -> {ok, term()} | {error, py_error:reason()}.
await(Ref, Timeout) when is_reference(Ref) ->
    py_async_call:await(Ref, py_options:timeout(Timeout)).

%% @doc Lets go of a handle: its object may end, unless Python code has it. From any process, any
%% number of times. It is let go of when its owner ends, too: the process that has made it.
-spec release(py_handle:handle()) -> ok.
release(Handle) ->
    py_handle:release(Handle).

%% @doc The version of the default pool's Python, as `<<"3.11.2">>'.
-spec version() -> {ok, binary()} | {error, py_error:reason()}.
version() ->
    version(#{}).

%% @doc The same of the pool that `Opts' name.
-spec version(options(py_options:call_options())) -> {ok, binary()} | {error, py_error:reason()}.
version(Opts) ->
    call(platform, python_version, [], #{}, Opts).

%% @doc A sentence for people, from any reason that this module returns.
-spec format_error(py_error:reason()) -> string().
format_error(Reason) ->
    py_error:format_error(Reason).

%%% What Python code may call.

%% @doc Lets Python code call `Fun' as `erlang.call("Name", ...)', with the list of
%% arguments as its one argument. Each call has a process of its own. The function
%% stays registered when the process that registered it ends.
-spec register_function(name(), fun(([term()]) -> term())) -> ok.
register_function(Name, Fun) ->
    py_functions:register(Name, Fun).

%% @doc The same for `M:F/1'.
-spec register_function(name(), module(), atom()) -> ok.
register_function(Name, M, F) ->
    py_functions:register(Name, {M, F}).

%% @doc Python code can no longer call it. Calls that are under way go on.
-spec unregister_function(name()) -> ok.
unregister_function(Name) ->
    py_functions:unregister(Name).

%% @doc The names of the functions that Python code may call.
-spec functions() -> [binary()].
functions() ->
    py_functions:names().

%%% Pools and workers of one's own.

%% @doc Starts a pool and waits until its workers take work.
-spec start_pool(atom(), options(py_options:pool_options())) -> {ok, pid()} | {error, term()}.
start_pool(Name, PoolOpts) when is_atom(Name) ->
    py_pool_sup:start_pool(Name, PoolOpts).

%% @doc Stops a pool. Its streams and calls end with `{worker_exit, stopped}'.
-spec stop_pool(atom()) -> ok | {error, py_error:reason()}.
stop_pool(Name) when is_atom(Name) ->
    py_pool_sup:stop_pool(Name).

%% @doc With `drain', the pool takes nothing new, and what runs has that many milliseconds to end before.
-spec stop_pool(atom(), options(#{drain => timeout()})) -> ok | {error, py_error:reason()}.
stop_pool(Name, Opts) when is_atom(Name) ->
    case maps:to_list(py_options:map(Opts)) of
        [] ->
            stop_pool(Name);
        [{drain, Ms}] ->
            _ = drain(Name, Ms),
            stop_pool(Name);
        [{Key, Value} | _] ->
            py_badopt:raise(stop, Key, Value)
    end.

%% @doc The specification of a pool, for a supervisor of your own: the pool starts with the
%% supervisor, which waits until its workers take work, and ends with it.
-spec pool_spec(atom(), options(py_options:pool_options())) -> supervisor:child_spec().
pool_spec(Name, PoolOpts) when is_atom(Name) ->
    _ = py_options:pool(PoolOpts),
    %% The pool ends when its Python processes have left, for which they have a time of their own.
    #{id => Name, start => {py_pool_sup, start_link_pool, [Name, PoolOpts]}, shutdown => infinity, type => worker}.

%% @doc Lets a pool take nothing new, which gets `{error, draining}', and waits until
%% nothing is under way. After `Timeout' milliseconds it is `{error, {busy, N}}', of what
%% then runs. It stays so until {@link resume/1}; workers that end are replaced meanwhile.
-spec drain(atom() | pid() | {atom(), node()}, timeout()) -> ok | {error, {busy, pos_integer()} | py_error:reason()}.
drain(Pool, Timeout) ->
    _ = py_options:timeout(Timeout),
    at(named(Pool), fun(Name) -> {drain, Name, Timeout} end).

%% @doc Lets a pool that was drained take requests again.
-spec resume(atom() | pid() | {atom(), node()}) -> ok | {error, py_error:reason()}.
resume(Pool) ->
    at(named(Pool), fun(Name) -> {resume, Name} end).

%% @doc The nodes that offer a pool by its option `cluster' and are not drained.
-spec nodes(atom()) -> [node()].
nodes(Name) when is_atom(Name) ->
    py_cluster:offering(Name).

%% @doc Puts a new worker in the place of each, one by one, as after new code or in a new
%% environment: a new one is ready before the old one ends what it runs and leaves. Returns
%% when each has its successor, or with the reason why one cannot start; the others then stay.
-spec restart_workers(atom() | pid() | {atom(), node()}) -> ok | {error, py_error:reason()}.
restart_workers(Pool) ->
    at(named(Pool), fun(Name) -> {restart_workers, Name} end).

%% @doc Starts a Python process of the caller's own, linked to it. Its pid is
%% accepted wherever the name of a pool is. It ends with its Python process, for
%% the reason `{shutdown, {worker_exit, Status}}', and with the caller. `Opts' are
%% those of a pool, without `workers'.
-spec start_worker(options(py_options:pool_options())) -> {ok, pid()} | {error, term()}.
start_worker(Opts) ->
    py_own_worker:start(py_options:worker(Opts), link).

%% @doc With `monitor', the caller is not linked to it: it gets a `DOWN' message. The
%% worker still ends with the caller.
-spec start_worker(options(py_options:pool_options()), link | monitor) ->
    {ok, pid()} | {ok, {pid(), reference()}} | {error, term()}.
start_worker(Opts, How) when How =:= link; How =:= monitor ->
    py_own_worker:start(py_options:worker(Opts), How);
start_worker(_Opts, How) ->
    py_badopt:raise(start, How).

%% @doc The same on another node, whose files and Python it uses.
-spec start_worker(options(py_options:pool_options()), link | monitor, node()) ->
    {ok, pid()} | {ok, {pid(), reference()}} | {error, term()}.
start_worker(Opts, How, Node) when Node =:= node() ->
    start_worker(Opts, How);
start_worker(Opts, How, Node) when How =:= link; How =:= monitor ->
    case py_remote:ask(Node, {start_worker, py_options:worker(Opts), self()}, infinity) of
        {ok, Pid} when How =:= link ->
            link(Pid),
            {ok, Pid};
        {ok, Pid} ->
            {ok, {Pid, monitor(process, Pid)}};
        Error ->
            Error
    end;
start_worker(_Opts, How, _Node) ->
    py_badopt:raise(start, How).

%% @doc Stops a worker of one's own. What runs there ends with
%% `{error, {worker_exit, stopped}}'.
-spec stop_worker(pid()) -> ok.
stop_worker(Pid) when is_pid(Pid), node(Pid) =/= node() ->
    %% If it cannot be asked the worker ends with the connection.
    _ = py_remote:ask(node(Pid), {stop_worker, Pid}, infinity),
    ok;
stop_worker(Pid) when is_pid(Pid) ->
    py_own_worker:stop(Pid).

%% @equiv child_spec(py_worker, Opts)
-spec child_spec(options(py_options:pool_options())) -> supervisor:child_spec().
child_spec(Opts) ->
    child_spec(py_worker, Opts).

%% @doc The specification of a worker of one's own, for a supervisor.
-spec child_spec(Id :: term(), options(py_options:pool_options())) -> supervisor:child_spec().
child_spec(Id, Opts) ->
    #{id => Id, start => {py, start_worker, [Opts]}, shutdown => 5000, type => worker}.

%% @doc The state of every pool, by name. Nobody is asked for it: it is there at once,
%% whatever the workers do.
-spec info() -> #{atom() => pool_info() | {error, py_error:reason()}}.
info() ->
    maps:from_list([{Name, info(Name)} || Name <- py_pool:names()]).

%% @doc The state of a pool, or with `{Name, all}' of all nodes that offer it. A node that does
%% not answer within five seconds has an error there.
-spec info(py_options:destination()) ->
    pool_info() | #{node() => pool_info() | {error, py_error:reason()}} | {error, py_error:reason()}.
info({Name, all}) when is_atom(Name) ->
    maps:from_list(py_remote:ask_all(py_cluster:members(Name), {info, Name}, ?INFO_MS));
info(Pool) ->
    at(named(Pool), fun(Name) -> {info, Name} end).

%% @doc What every thread and every task of the workers of a pool, or of one worker, is doing, as
%% text. A worker answers whatever it runs; of one that does not within a second, since code in
%% C holds the interpreter lock, it is what Python's `faulthandler' finds.
-spec stack_traces(py_options:destination()) -> {ok, #{pid() => binary()}} | {error, py_error:reason()}.
stack_traces(Pool) ->
    at(named(Pool), fun(Name) -> {stacks, Name} end).

%% @doc Prints {@link stack_traces/1}.
-spec stacks(py_options:destination()) -> ok | {error, py_error:reason()}.
stacks(Pool) ->
    case stack_traces(Pool) of
        {ok, Stacks} -> io:put_chars(py_stacks:format(Stacks));
        Error -> Error
    end.

%% @doc Prints the state of every pool, a line for each worker.
-spec i() -> ok.
i() ->
    io:put_chars(py_info_format:format(info())).

%% @doc Prints it again and again, with a pause of `Seconds', until the caller is interrupted. With
%% `{Name, all}' prints once the state of a pool on every node that offers it.
-spec i(pos_integer() | {atom(), all}) -> ok.
i({Name, all}) when is_atom(Name) ->
    io:put_chars(py_info_format:nodes(info({Name, all})));
i(Seconds) when is_integer(Seconds), Seconds > 0 ->
    print_again(Seconds);
i(Seconds) ->
    py_badopt:raise(seconds, Seconds).

-spec print_again(pos_integer()) -> no_return().
print_again(Seconds) ->
    ok = i(),
    timer:sleep(Seconds * 1000),
    io:nl(),
    print_again(Seconds).

%%% What all of them share.

%% A handle, as what is called, as the pool, or among the arguments where no pool is named, leads a request to
%% its worker.
with_place(Called, Values, Opts, Kind, ToTarget, Fun) ->
    case handle(Called, Values, Opts) of
        none -> with_pool(Opts, Kind, ToTarget, Fun);
        Handle -> with_handle(Handle, Opts, Kind, ToTarget, Fun)
    end.

handle(Handle = {py_handle, _}, _Values, _Opts) -> Handle;
handle(_Called, _Values, #{pool := {py_handle, {_, _, _}} = Handle}) -> Handle;
handle(_Called, _Values, #{pool := _}) -> none;
handle(_Called, Values, _Opts) -> py_handle:among(Values).

with_handle(Handle, Opts, Kind, ToTarget, Fun) ->
    case py_handle:worker(Handle) of
        {ok, Pid} ->
            case with_pool(Opts#{pool => Pid}, Kind, ToTarget, Fun) of
                {error, {no_pool, Pid}} -> {error, py_handle:gone(Handle)};
                Result -> Result
            end;
        Error ->
            Error
    end.

%% `ToTarget' encodes the arguments, of options that are checked, and `Fun' makes the request
%% where it is to run. A pool of this node is the short way: two look-ups in a table. The worker
%% is chosen last, so that many who come at once spread over all of them.
with_pool(Opts, Kind, ToTarget, Fun) ->
    case pool(Opts) of
        Name when is_atom(Name) -> with_defaults(Name, Opts, Kind, ToTarget, Fun);
        {Name, Node} when Node =:= node() -> with_defaults(Name, Opts, Kind, ToTarget, Fun);
        Pid when is_pid(Pid), node(Pid) =:= node() -> with_defaults(Pid, Opts, Kind, ToTarget, Fun);
        Destination -> with_route(Destination, Opts, Kind, ToTarget, Fun)
    end.

with_defaults(Name, Opts, Kind, ToTarget, Fun) ->
    case py_pool:defaults(Name) of
        {ok, Defaults} ->
            Checked = py_options:Kind(Opts, Defaults),
            with_worker(Name, Opts, ToTarget(Checked), Checked, Fun);
        Error ->
            Error
    end.

with_worker(Name, Opts, Target, Checked, Fun) ->
    case py_pool:choose(Name) of
        {ok, Worker} ->
            case Fun(Worker, Target, Checked) of
                {error, draining} when is_atom(Name) -> again(Name, Opts, Target, Checked, Fun);
                %% Only a call says that it was not written: the others choose another worker themselves.
                {unwritten, Left} -> Fun(py_cluster:here(Name), Target, Checked#{given => Opts, timeout => Left});
                Result -> Result
            end;
        {error, Reason} ->
            case py_pool:may_wait(Name, Reason) of
                %% What runs the request waits, and not who makes it.
                true -> Fun(py_cluster:here(Name), Target, Checked#{given => Opts});
                {false, Why} -> {error, Why}
            end
    end.

%% A worker may be chosen just when another has taken its place; it has then run nothing.
again(Name, Opts, Target, Checked, Fun) ->
    case py_pool:is_draining(Name) of
        true -> {error, draining};
        false -> with_worker(Name, Opts, Target, Checked, Fun)
    end.

%% The defaults are those of the pool, which another node has: it gets what was given.
with_route(Destination, Opts, Kind, ToTarget, Fun) ->
    Checked = py_options:Kind(Opts, #{}),
    case py_cluster:route(Destination) of
        {ok, Route} -> Fun(Route, ToTarget(Checked), Checked#{given => Opts});
        Error -> Error
    end.

pool(#{pool := Pool}) -> Pool;
pool(_) -> default.

named({_, all} = Destination) -> py_badopt:raise(pool, Destination);
named(Destination) -> py_options:destination(Destination).

%% What is no request of a worker: it is asked of the node that has the pool.
at({Name, all}, Question) ->
    case py_cluster:offering(Name) of
        [] -> {error, {no_pool, Name}};
        Nodes -> all_ok([{Node, R} || {Node, R} <- py_remote:ask_all(Nodes, Question(Name), infinity), R =/= ok])
    end;
at(Destination, Question) when is_atom(Destination); is_pid(Destination), node(Destination) =:= node() ->
    py_relay:ask(1, Question(Destination));
at(Destination, Question) ->
    case py_cluster:route(Destination) of
        {ok, Route} ->
            {Node, #route{pool = Pool}} = py_cluster:next(Route),
            py_remote:ask(Node, Question(Pool), infinity);
        Error ->
            Error
    end.

all_ok([]) -> ok;
all_ok(Errors) -> {error, [{Node, Reason} || {Node, {error, Reason}} <- Errors]}.
