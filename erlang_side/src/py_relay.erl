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
-behaviour(gen_server).

-include("py_worker.hrl").

-export([stream/2, call/2, ask/2]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).
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
    | {stacks, atom() | pid()}
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
    %% Of a stream its worker's monitor; of a call the reference by which its reply comes as well.
    kind :: stream | call,
    monitor :: reference(),
    %% The name under which the guard knows it.
    ref :: reference(),
    %% While the worker's port has no room for the request; and what the other side hears of a stream when
    %% it has been written.
    held = none :: none | py_port:held(),
    about = #{} :: map(),
    %% For those who watch this node; and what the events of a stream begin with.
    watched :: py_request:request(),
    prefix :: binary(),
    %% Whether the other side has only to end.
    is_done = false :: boolean(),
    %% The number of the last frame, and what the last credit said: the other side learns by it
    %% how far its own window reached when a frame was sent.
    number = 0 :: non_neg_integer(),
    seen = 0 :: non_neg_integer(),
    %% Of a call whose result stays here: the process that keeps the handle of it.
    keeper = none :: none | pid()
}).

%% @doc Runs a stream for a process of another node.
-spec stream(1, request()) -> ok.
stream(1, Request) ->
    run(stream, Request).

%% @doc Makes a call for a process of another node.
-spec call(1, request()) -> ok.
call(1, Request) ->
    run(call, Request).

%% Counted from before the choice of a worker until the other side has everything.
run(Kind, Request = #{from := From, pool := Pool}) ->
    FromMonitor = monitor(process, From),
    ok = py_relays:enter(Pool, From),
    case placed(Kind, Request) of
        {ok, Worker, Opts, Defaults} ->
            case begun(Kind, Worker, Opts, Defaults, FromMonitor, Request) of
                unwritten -> refuse_unwritten(From, Pool, Worker);
                R -> serve(R)
            end;
        {error, Reason} ->
            refuse(Reason, From, Pool)
    end.

refuse_unwritten(From, Pool, Worker) ->
    refuse(py_pool:no_worker(Pool, py_port:end_of(Worker)), From, Pool).

placed(Kind, Request) ->
    try
        choose(Kind, Request)
    catch
        Class:Reason:Stack ->
            py_relays:leave(),
            erlang:raise(Class, Reason, Stack)
    end.

%% A process that another node has started is none of proc_lib(3) by itself.
-spec serve(#relay{}) -> no_return().
serve(R = #relay{from = From}) ->
    put('$ancestors', [From]),
    put('$initial_call', {?MODULE, R#relay.kind, 2}),
    gen_server:enter_loop(?MODULE, [], R).

begun(stream, Worker = #worker{pid = Pid}, Opts, Defaults, FromMonitor, Request) ->
    #{opts := Given, ref := Ref, owner := Owner, target := Target} = Request,
    Monitor = monitor(process, Pid),
    Window = maps:get(window, maps:merge(Defaults, Given), auto),
    About = #{window => Window, window_bytes => maps:get(window_bytes, Opts)},
    %% If this is killed, the guard has Python cancel.
    ok = py_stream_guard:watch({Ref, self(), Owner, none, Worker}),
    R = relay(stream, Worker, Monitor, Ref, FromMonitor, Request),
    Frame = py_frame:stream(py_frame:address(self()), Ref, Owner, Opts, Target),
    offer(0, R#relay{held = {Worker, Ref, Frame}, about = About});
begun(call, Worker, Opts, _Defaults, FromMonitor, Request = #{from := From, target := Target}) ->
    Watched = fun(Call) ->
        ok = py_stream_guard:watch({Call, self(), From, none, {call, Worker}}),
        relay(call, Worker, Call, Call, FromMonitor, Request)
    end,
    case py_call:write(Worker, Target, Opts) of
        {ok, Call} -> Watched(Call);
        {full, Held = {_, Call, _}} -> (Watched(Call))#relay{held = Held};
        unwritten -> unwritten
    end.

offer(Tries, R = #relay{held = Held, ref = Ref}) ->
    case py_port:offer(Held, Tries) of
        written ->
            written(R),
            R#relay{held = none};
        full ->
            R;
        closed ->
            ended(done, R),
            py_streams:forget(Ref),
            unwritten
    end.

written(#relay{kind = stream, from = From, pool = Pool, about = About}) ->
    %% If it cannot be sent, the other side has ended, and this hears of it.
    _ = erlang:send(From, {py_far, accepted, self(), About, load(Pool)}, [noconnect]),
    ok;
written(#relay{kind = call}) ->
    ok.

relay(Kind, Worker, Monitor, Ref, FromMonitor, Request = #{from := From, pool := Pool, target := Target}) ->
    #relay{
        watched = py_request:served(Kind, Worker, Target, Ref),
        prefix = py_frame:event_prefix(py_frame:data_prefix(Ref)),
        keeper = maps:get(keeper, Request, none),
        from = From,
        from_monitor = FromMonitor,
        pool = Pool,
        worker = Worker,
        kind = Kind,
        monitor = Monitor,
        ref = Ref
    }.

%%% gen_server callbacks. A server, because such a process survives that the code is loaded twice.

-define(OWN_TERMINATE, true).
-include("py_entered.hrl").

-spec handle_info(term(), #relay{}) -> {noreply, #relay{}} | {stop, term(), #relay{}}.
%% The other process ends when it has what it waits for. Until then this counts as under way,
%% so that a node that is stopped after a drain has sent everything.
handle_info({'DOWN', Monitor, process, _, _}, R = #relay{from_monitor = Monitor, is_done = true}) ->
    {stop, normal, R};
handle_info({'DOWN', Monitor, process, _, _}, R = #relay{from_monitor = Monitor}) ->
    ended({error, cancelled}, R),
    abandon(R),
    {stop, normal, R};
handle_info(_Other, R = #relay{is_done = true}) ->
    {noreply, R};
handle_info({offer, Ref, Tries}, R = #relay{ref = Ref, held = Held}) when Held =/= none ->
    case offer(Tries, R) of
        unwritten -> not_written(R);
        New -> {noreply, New}
    end;
handle_info({'DOWN', Monitor, process, _, _}, R = #relay{monitor = Monitor, held = Held}) when Held =/= none ->
    ended(done, R),
    not_written(R);
handle_info({'DOWN', Monitor, process, _, Reason}, R = #relay{monitor = Monitor, worker = Worker}) ->
    Exit = py_port:end_of(Worker, Reason),
    ended({error, Exit}, R),
    {stop, {shutdown, Exit}, R};
handle_info({py_event, Payload}, R = #relay{number = Before, worker = Worker, prefix = Prefix}) ->
    Number = Before + 1,
    py_counters:add(Worker, values, py_frame:values(Payload, Prefix)),
    send({py_far, Number, R#relay.seen, Payload}, R#relay{number = Number});
handle_info({py_last, Payload}, R = #relay{number = Number, pool = Pool}) ->
    ended(stream_result(Payload), R),
    send({py_far, last, Number + 1, Payload, load(Pool)}, R#relay{is_done = true});
handle_info({py_credit, Values, Bytes, Demand}, R = #relay{worker = Worker}) ->
    _ = py_port:write(Worker, py_frame:credit(py_frame:address(self()), Values, Bytes, Demand)),
    {noreply, R#relay{seen = Values}};
handle_info(py_bad_frame, R = #relay{worker = Worker}) ->
    py_port:replace(Worker#worker.pid, bad_frame),
    {noreply, R};
handle_info({Call, Payload}, R = #relay{kind = call, monitor = Call, pool = Pool, worker = Worker}) ->
    ended(call_result(Payload), R),
    hold(Payload, R#relay.keeper),
    _ = erlang:send(R#relay.from, {py_far, reply, Payload, load(Pool), Worker#worker.pid}, [noconnect]),
    {noreply, R#relay{is_done = true}};
handle_info(_Other, R) ->
    {noreply, R}.

not_written(R = #relay{from = From, pool = Pool, worker = Worker}) ->
    refuse_unwritten(From, Pool, Worker),
    {stop, normal, R}.

-spec terminate(term(), #relay{}) -> ok.
terminate(Reason, #relay{ref = Ref}) ->
    py_streams:forget(Ref),
    py_relays:leave(),
    py_status:without_mail(Reason).

%% A connection that was lost is not made anew: the other side has its end already.
send(Message, R = #relay{from = From}) ->
    case erlang:send(From, Message, [noconnect]) of
        ok ->
            {noreply, R};
        noconnect ->
            _ = R#relay.is_done orelse ended({error, cancelled}, R),
            abandon(R),
            {stop, normal, R}
    end.

ended(Result, #relay{watched = Watched}) ->
    py_request:ended(Watched, Result).

stream_result(Payload) ->
    case py_etf:decode(Payload) of
        {ok, {py_stream, _, {error, Reason}}} -> {error, py_error:reason(Reason)};
        _ -> done
    end.

%% A value is not decoded, which the other side does.
call_result(Payload = <<131, $h, 2, $w, 5, "error", _/binary>>) ->
    case py_etf:decode(Payload) of
        {ok, {error, Reason}} -> {error, py_error:reason(Reason)};
        _ -> {ok, none}
    end;
call_result(_Payload) ->
    {ok, none}.

%% From before the other side knows of it, so that no object is left when the nodes part.
hold(_Payload, none) ->
    ok;
hold(Payload, Keeper) ->
    case py_etf:decode(Payload) of
        {ok, {ok, {Worker, Id}}} -> py_handle:hold(Keeper, py_frame:localized(Worker), Id);
        _ -> ok
    end.

abandon(#relay{kind = stream, held = none, worker = Worker}) -> py_port:cancel(Worker, self());
abandon(#relay{kind = stream, worker = Worker}) -> py_load:release(stream, Worker);
abandon(#relay{kind = call, held = none, worker = Worker, monitor = Call}) -> py_port:cancel(Worker, Call);
abandon(#relay{kind = call, held = Held}) -> py_call:withdraw(Held).

refuse(Reason, From, Pool) ->
    _ = erlang:send(From, {py_far, refused, Reason, load(Pool)}, [noconnect]),
    py_relays:leave().

%% A worker on which the request is counted. What is refused here was not written to Python.
choose(Kind, #{pool := Pool, opts := Given}) ->
    case py_pool:find(Pool) of
        {ok, Worker, Defaults} ->
            try py_options:Kind(Given, Defaults) of
                Opts -> reserve(Kind, Worker, Opts, Defaults)
            catch
                %% An option of a later release.
                error:{badopt, _} -> {error, {not_supported, node()}}
            end;
        %% Nothing waits for a worker here, since another node may be asked.
        {error, Reason} ->
            {error, py_pool:no_worker(Pool, Reason)}
    end.

reserve(Kind, Worker, Opts, Defaults) ->
    case py_load:reserve(Kind, Worker) of
        ok -> {ok, Worker, Opts, Defaults};
        Error -> Error
    end.

load(Pool) ->
    py_pool:pool_load(Pool).

%% @doc Whatever needs no process of its own.
-spec ask(1, question()) -> term().
ask(1, {exec, Pool, Code, Opts}) -> py_pool_admin:exec(Pool, Code, Opts);
ask(1, {info, Pool}) -> py_pool_info:info(Pool);
ask(1, {stacks, Pool}) -> py_stacks:of_pool(Pool);
ask(1, {drain, Pool, Timeout}) -> py_pool_admin:drain(Pool, Timeout);
ask(1, {resume, Pool}) -> py_pool_admin:resume(Pool);
ask(1, {restart_workers, Pool}) -> py_pool_admin:restart_workers(Pool);
ask(1, {start_worker, Opts, Starter}) -> py_own_worker:start_for(Opts, Starter);
ask(1, {stop_worker, Pid}) -> py_own_worker:stop(Pid);
%% The other way round: code that runs there for a request of this node.
ask(1, {callback, Question}) -> py_callback:outcome(Question).
