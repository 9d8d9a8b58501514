%% @doc Python from Erlang: streams, calls and code.
%%
%% A Python generator becomes a sequence of messages `{py_stream, Ref, Event}'.
%% Module and function names are atoms, binaries or strings; options are maps,
%% whose types are in {@link py_options}; reasons are in {@link py_error}.
-module(py).

%% Streams.
-export([
    stream_start/3, stream_start/4,
    stream_cancel/1, stream_cancel/2,
    stream_demand/2,
    stream_next/1, stream_next/2,
    stream_fold/3,
    stream/3, stream/4, stream/5,
    stream_eval/1, stream_eval/2, stream_eval/3
]).
%% Code and calls.
-export([
    exec/1, exec/2,
    eval/1, eval/2, eval/3,
    call/3, call/4, call/5,
    version/0,
    format_error/1
]).
%% Pools.
-export([start_pool/2, stop_pool/1, info/0, info/1]).

-export_type([event/0]).

-type name() :: py_options:name().
-type event() ::
    {data, term()} | {batch, [term(), ...]} | done | {error, py_error:reason()}.
%% What an owner gets, as `{py_stream, Ref, Event}'. `done' and `{error, _}' are
%% terminal: there is exactly one, and nothing comes after it.

%%% Streams.

%% @equiv stream_start(M, F, Args, #{})
-spec stream_start(name(), name(), [term()]) ->
    {ok, reference()} | {error, py_error:reason()}.
stream_start(M, F, Args) ->
    stream_start(M, F, Args, #{}).

%% @doc Starts a stream of what `M:F' returns, a generator or any other iterator
%% or iterable, sync or async. Returns at once; all else is an event. Errors:
%% `overloaded', `{no_pool, Name}', `{worker_exit, Status}' where no worker lives.
-spec stream_start(name(), name(), [term()], py_options:stream_options()) ->
    {ok, reference()} | {error, py_error:reason()}.
stream_start(M, F, Args, Opts) ->
    with_worker(Opts, stream, fun(Worker, Checked) ->
        Target = py_call:function(M, F, Args, maps:get(kwargs, Checked), Checked),
        start_stream(Worker, Target, Checked)
    end).

start_stream(Worker, Target, Opts) ->
    case py_pool:reserve(Worker) of
        ok ->
            Ref = make_ref(),
            _ = py_stream:start(Worker, Target, Ref, maps:merge(#{owner => self()}, Opts)),
            {ok, Ref};
        Overloaded ->
            Overloaded
    end.

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
    py_stream:cancel(Ref);
stream_cancel(Ref, [flush]) when is_reference(Ref) ->
    py_stream:cancel_flush(Ref),
    flush(Ref);
stream_cancel(_Ref, Opts) ->
    check_cancel(Opts).

check_cancel(Opts) ->
    lists:member(Opts, [[], [flush]]) orelse error({badopt, {cancel, Opts}}).

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
    py_stream:demand(Ref, N);
stream_demand(_Ref, N) ->
    error({badopt, {demand, N}}).

%% @equiv stream_next(Ref, infinity)
-spec stream_next(reference()) -> {ok, term()} | done | {error, py_error:reason()}.
stream_next(Ref) ->
    case stream_next(Ref, infinity) of
        Event when Event =/= timeout -> Event
    end.

%% @doc Takes the next event out of the caller's mailbox: `{ok, Value}', or
%% `{ok, Values}' for a stream with `batch'; `done'; `{error, Reason}'; `timeout'
%% after so many milliseconds, which ends nothing.
-spec stream_next(reference(), timeout()) ->
    {ok, term()} | done | {error, py_error:reason()} | timeout.
stream_next(Ref, Timeout) ->
    receive
        {py_stream, Ref, {data, Value}} -> {ok, Value};
        {py_stream, Ref, {batch, Values}} -> {ok, Values};
        {py_stream, Ref, Terminal} -> Terminal
    after Timeout -> timeout
    end.

%% @doc Folds over a stream whose owner is the caller. `Fun(Value, Acc)' returns
%% `{cont, Acc}', or `{halt, Acc}', which cancels the stream and flushes.
-spec stream_fold(fun((term(), Acc) -> {cont, Acc} | {halt, Acc}), Acc, reference()) ->
    {ok, Acc} | {error, py_error:reason(), Acc}.
stream_fold(Fun, Acc, Ref) ->
    receive
        {py_stream, Ref, {data, Value}} -> fold([Value], Fun, Acc, Ref);
        {py_stream, Ref, {batch, Values}} -> fold(Values, Fun, Acc, Ref);
        {py_stream, Ref, done} -> {ok, Acc};
        {py_stream, Ref, {error, Reason}} -> {error, Reason, Acc}
    end.

fold([], Fun, Acc, Ref) ->
    stream_fold(Fun, Acc, Ref);
fold([Value | Rest], Fun, Acc, Ref) ->
    case Fun(Value, Acc) of
        {cont, NewAcc} ->
            fold(Rest, Fun, NewAcc, Ref);
        {halt, NewAcc} ->
            stream_cancel(Ref, [flush]),
            {ok, NewAcc}
    end.

%% @equiv stream(M, F, Args, #{}, #{})
-spec stream(name(), name(), [term()]) -> {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args) ->
    stream(M, F, Args, #{}, #{}).

%% @equiv stream(M, F, Args, Kwargs, #{})
-spec stream(name(), name(), [term()], map()) -> {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args, Kwargs) ->
    stream(M, F, Args, Kwargs, #{}).

%% @doc All that `M:F' yields, as a list. Leaves nothing in the mailbox.
-spec stream(name(), name(), [term()], map(), py_options:stream_options()) ->
    {ok, [term()]} | {error, py_error:reason()}.
stream(M, F, Args, Kwargs, Opts) ->
    with_worker(Opts, stream, fun(Worker, Checked) ->
        collect(Worker, py_call:function(M, F, Args, Kwargs, Checked), Checked)
    end).

%% @equiv stream_eval(Code, #{}, #{})
-spec stream_eval(unicode:chardata()) -> {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code) ->
    stream_eval(Code, #{}, #{}).

%% @equiv stream_eval(Code, Locals, #{})
-spec stream_eval(unicode:chardata(), map()) -> {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code, Locals) ->
    stream_eval(Code, Locals, #{}).

%% @doc The same for what an expression evaluates to.
-spec stream_eval(unicode:chardata(), map(), py_options:stream_options()) ->
    {ok, [term()]} | {error, py_error:reason()}.
stream_eval(Code, Locals, Opts) ->
    with_worker(Opts, stream, fun(Worker, Checked) ->
        collect(Worker, py_call:expression(Code, Locals, Checked), Checked)
    end).

collect(Worker, Target, Opts) ->
    case py_pool:reserve(Worker) of
        ok -> py_stream:collect(Worker, Target, make_ref(), Opts);
        Overloaded -> Overloaded
    end.

%%% Code and calls.

%% @equiv exec(Code, #{})
-spec exec(unicode:chardata()) -> ok | {error, py_error:reason()}.
exec(Code) ->
    exec(Code, #{}).

%% @doc Runs code in `__main__' of every worker of the pool, and again in a
%% worker that is restarted, unless `replay' is `false'.
-spec exec(unicode:chardata(), py_options:call_options()) -> ok | {error, py_error:reason()}.
exec(Code, Opts) ->
    py_pool:exec(pool(Opts), py_call:code(Code), Opts).

%% @equiv eval(Code, #{})
-spec eval(unicode:chardata()) -> {ok, term()} | {error, py_error:reason()}.
eval(Code) ->
    eval(Code, #{}, #{}).

%% @equiv eval(Code, Locals, #{})
-spec eval(unicode:chardata(), map()) -> {ok, term()} | {error, py_error:reason()}.
eval(Code, Locals) ->
    eval(Code, Locals, #{}).

%% @doc Evaluates an expression in `__main__', with local variables by name.
-spec eval(unicode:chardata(), map(), timeout() | py_options:call_options()) ->
    {ok, term()} | {error, py_error:reason()}.
eval(Code, Locals, Opts) when is_map(Opts) ->
    with_worker(Opts, call, fun(Worker, Checked = #{timeout := Timeout}) ->
        py_call:run(Worker, py_call:expression(Code, Locals, Checked), Timeout)
    end);
eval(Code, Locals, Timeout) ->
    eval(Code, Locals, #{timeout => Timeout}).

%% @equiv call(M, F, Args, #{})
-spec call(name(), name(), [term()]) -> {ok, term()} | {error, py_error:reason()}.
call(M, F, Args) ->
    call(M, F, Args, #{}, #{}).

%% @equiv call(M, F, Args, Kwargs, #{})
-spec call(name(), name(), [term()], map()) -> {ok, term()} | {error, py_error:reason()}.
call(M, F, Args, Kwargs) ->
    call(M, F, Args, Kwargs, #{}).

%% @doc Calls a function and waits for its result, 30,000 ms unless told
%% otherwise; then `{error, timeout}', and the Python code is interrupted. An
%% `async def' is awaited.
-spec call(name(), name(), [term()], map(), timeout() | py_options:call_options()) ->
    {ok, term()} | {error, py_error:reason()}.
call(M, F, Args, Kwargs, Opts) when is_map(Opts) ->
    with_worker(Opts, call, fun(Worker, Checked = #{timeout := Timeout}) ->
        py_call:run(Worker, py_call:function(M, F, Args, Kwargs, Checked), Timeout)
    end);
call(M, F, Args, Kwargs, Timeout) ->
    call(M, F, Args, Kwargs, #{timeout => Timeout}).

%% @doc The version of the pool's Python, as `<<"3.11.2">>'.
-spec version() -> {ok, binary()} | {error, py_error:reason()}.
version() ->
    call(platform, python_version, []).

%% @doc A sentence for people, from any reason that this module returns.
-spec format_error(py_error:reason()) -> string().
format_error(Reason) ->
    py_error:format_error(Reason).

%%% Pools.

%% @doc Starts a pool and waits until its workers take work.
-spec start_pool(atom(), py_options:pool_options()) -> {ok, pid()} | {error, term()}.
start_pool(Name, PoolOpts) when is_atom(Name) ->
    py_pool_sup:start_pool(Name, PoolOpts).

%% @doc Stops a pool. Its streams and calls end with `{worker_exit, stopped}'.
-spec stop_pool(atom()) -> ok | {error, py_error:reason()}.
stop_pool(Name) when is_atom(Name) ->
    py_pool_sup:stop_pool(Name).

%% @doc The state of every pool, by name.
-spec info() -> #{atom() => map()}.
info() ->
    maps:from_list([{Name, info(Name)} || Name <- py_pool:names()]).

%% @doc The state of a pool.
-spec info(atom() | pid()) -> map() | {error, py_error:reason()}.
info(Pool) ->
    py_pool:info(Pool).

%%% What all of them share.

with_worker(Opts, Kind, Fun) ->
    case py_pool:choose(pool(Opts)) of
        {ok, Worker, Defaults} -> Fun(Worker, py_options:Kind(Opts, Defaults));
        {error, Reason} -> {error, Reason}
    end.

pool(#{pool := Pool}) -> Pool;
pool(_) -> default.
