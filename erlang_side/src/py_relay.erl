%% @doc What other nodes may ask of this one. A request of another node has a process here, its
%% relay: it chooses a worker, hands frames on undecoded and numbered, and brings credit and
%% the end of the other side to Python.
%%
%% A relay and not the worker sends to the other node, because a connection that is busy
%% suspends whoever sends.
%%
%% The first argument of each function is the version of what the nodes say to each other: a
%% node that does not know it ends with `function_clause', and one without this library with
%% `undef'. Nothing else of this application is called from another node.
%% @hidden
-module(py_relay).

-include("py_worker.hrl").

-export([stream/2, call/2, ask/2]).
-export_type([request/0, question/0]).

-type request() :: #{
    %% Who gets the frames; this ends when that does.
    from := pid(),
    pool := atom() | pid(),
    target := py_call:target(),
    %% As they were given: what is missing is for the pool to fill in.
    opts := map(),
    %% Of a call whose result stays here: the process that keeps the handle of it.
    keeper => pid(),
    %% Of a stream.
    ref => reference(),
    owner => pid()
}.
-type question() ::
    {exec, atom() | pid(), binary(), map()}
    | {info, atom() | pid()}
    | {drain, atom() | pid(), timeout()}
    | {resume, atom() | pid()}
    | {restart_workers, atom() | pid()}
    | {start_worker, py_options:pool_options(), Starter :: pid()}
    | {stop_worker, pid()}
    | {callback, {call | registered, binary(), [term()]}}.

-record(relay, {
    from :: pid(),
    from_monitor :: reference(),
    pool :: atom() | pid(),
    worker :: #worker{},
    worker_monitor :: reference(),
    %% The number of the last frame, and what the last credit said: the other side learns by it
    %% how far its own window reached when a frame was sent.
    number = 0 :: non_neg_integer(),
    seen = 0 :: non_neg_integer()
}).

%% @doc Runs a stream for a process of another node.
-spec stream(1, request()) -> ok.
stream(1, Request = #{from := From, pool := Pool}) ->
    FromMonitor = monitor(process, From),
    under_way(Pool, From, fun() -> start(FromMonitor, Request) end).

start(FromMonitor, Request = #{from := From, pool := Pool, opts := Given}) ->
    case place(stream, Request) of
        {ok, Worker = #worker{pid = Pid}, Opts, Defaults} ->
            #{ref := Ref, owner := Owner, target := Target} = Request,
            Relay = #relay{
                from = From,
                from_monitor = FromMonitor,
                pool = Pool,
                worker = Worker,
                worker_monitor = monitor(process, Pid)
            },
            Window = maps:get(window, maps:merge(Defaults, Given), auto),
            About = #{window => Window, window_bytes => maps:get(window_bytes, Opts)},
            watched({Ref, self(), Owner, none, Worker}, fun() ->
                send({py_far, accepted, self(), About, load(Pool)}, Relay),
                _ = py_port:write(Worker, py_frame:stream(py_frame:address(self()), Ref, Owner, Opts, Target)),
                loop(Relay)
            end);
        {error, Reason} ->
            refuse(Reason, Request)
    end.

loop(R = #relay{from_monitor = FromMonitor, worker_monitor = WorkerMonitor, worker = Worker}) ->
    receive
        {py_event, Payload} ->
            Number = R#relay.number + 1,
            send({py_far, Number, R#relay.seen, Payload}, R),
            loop(R#relay{number = Number});
        {py_last, Payload} ->
            send({py_far, last, R#relay.number + 1, Payload, load(R#relay.pool)}, R),
            await_other_side(FromMonitor);
        {py_credit, Values, Bytes, Demand} ->
            _ = py_port:write(Worker, py_frame:credit(py_frame:address(self()), Values, Bytes, Demand)),
            loop(R#relay{seen = Values});
        py_bad_frame ->
            py_port:replace(Worker#worker.pid, bad_frame),
            loop(R);
        {'DOWN', WorkerMonitor, process, _, Reason} ->
            exit({shutdown, py_error:worker_exit(Reason)});
        {'DOWN', FromMonitor, process, _, _} ->
            abandon(R)
    end.

%% The other process ends when it has what it waits for. Until then this counts as under way,
%% so that a node that is stopped after a drain has sent everything.
await_other_side(FromMonitor) ->
    receive
        {'DOWN', FromMonitor, process, _, _} -> ok
    end.

%% A connection that was lost is not made anew: the other side has its end already.
send(Message, R = #relay{from = From}) ->
    case erlang:send(From, Message, [noconnect]) of
        ok -> ok;
        noconnect -> abandon(R)
    end.

-spec abandon(#relay{}) -> no_return().
abandon(#relay{worker = Worker}) ->
    py_port:cancel(Worker, self()),
    exit(normal).

%% @doc Makes a call for a process of another node.
-spec call(1, request()) -> ok.
call(1, Request = #{from := From, pool := Pool}) ->
    FromMonitor = monitor(process, From),
    under_way(Pool, From, fun() -> run(FromMonitor, Request) end).

run(FromMonitor, Request = #{from := From, target := Target}) ->
    case place(call, Request) of
        {ok, Worker, Opts, _} ->
            Call = py_call:write(Worker, Target, Opts),
            watched({Call, self(), From, none, {call, Worker}}, fun() -> wait(Call, Worker, FromMonitor, Request) end);
        {error, Reason} ->
            refuse(Reason, Request)
    end.

wait(Call, Worker, FromMonitor, Request = #{from := From, pool := Pool}) ->
    receive
        {Call, Payload} ->
            hold(Payload, Request),
            _ = erlang:send(From, {py_far, reply, Payload, load(Pool), Worker#worker.pid}, [noconnect]),
            await_other_side(FromMonitor);
        {'DOWN', Call, process, _, Reason} ->
            exit({shutdown, py_error:worker_exit(Reason)});
        {'DOWN', FromMonitor, process, _, _} ->
            py_port:cancel(Worker, Call)
    end.

%% From before the other side knows of it, so that no object is left when the nodes part.
hold(Payload, #{keeper := Keeper}) ->
    case py_etf:decode(Payload) of
        {ok, {ok, {Worker, Id}}} -> py_handle:hold(Keeper, py_frame:localized(Worker), Id);
        _ -> ok
    end;
hold(_Payload, _Request) ->
    ok.

%% If this is killed, the guard has Python cancel.
watched(Row = {Ref, _, _, _, _}, Fun) ->
    ok = py_stream_guard:watch(Row),
    try
        Fun()
    after
        py_stream_guard:forget(Ref)
    end.

%% Counted from before the choice of a worker until the other side has everything.
under_way(Pool, From, Fun) ->
    ok = py_pool:enter(Pool, From),
    try
        Fun()
    after
        py_pool:leave()
    end.

refuse(Reason, #{from := From, pool := Pool}) ->
    _ = erlang:send(From, {py_far, refused, Reason, load(Pool)}, [noconnect]),
    ok.

%% A worker on which the request is counted. What is refused here was not written to Python.
place(Kind, #{pool := Pool, opts := Given}) ->
    case py_pool:find(Pool) of
        {ok, Worker, Defaults} ->
            try py_options:Kind(Given, Defaults) of
                Opts -> reserve(Kind, Worker, Opts, Defaults)
            catch
                %% An option of a later release.
                error:{badopt, _} -> {error, {not_supported, node()}}
            end;
        {error, Reason} ->
            {error, Reason}
    end.

reserve(Kind, Worker, Opts, Defaults) ->
    Reserved =
        case Kind of
            stream -> py_pool:reserve(Worker);
            call -> py_call:reserve(Worker)
        end,
    case Reserved of
        ok -> {ok, Worker, Opts, Defaults};
        Error -> Error
    end.

load(Pool) ->
    py_pool:pool_load(Pool).

%% @doc Whatever needs no process of its own.
-spec ask(1, question()) -> term().
ask(1, {exec, Pool, Code, Opts}) -> py_pool:exec(Pool, Code, Opts);
ask(1, {info, Pool}) -> py_pool:info(Pool);
ask(1, {drain, Pool, Timeout}) -> py_pool:drain(Pool, Timeout);
ask(1, {resume, Pool}) -> py_pool:resume(Pool);
ask(1, {restart_workers, Pool}) -> py_pool:restart_workers(Pool);
ask(1, {start_worker, Opts, Starter}) -> py_pool_manager:start_worker_for(Opts, Starter);
ask(1, {stop_worker, Pid}) -> py_pool_manager:stop_worker(Pid);
%% The other way round: code that runs there for a request of this node.
ask(1, {callback, Question}) -> py_callback:outcome(Question).
