%% @doc A stream: one process between a worker and an owner. It decodes what the
%% worker hands on, delivers it, keeps the window, monitors the owner and the
%% worker, and keeps the time. It ends with the stream.
%%
%% It is on the node where the stream was started. If that is not the pool's, what it needs of
%% the worker it has of a relay there, see py_remote.
%% @hidden
-module(py_stream).
-behaviour(gen_server).

-include("py_worker.hrl").
-include("py_cluster.hrl").

-export([start/4, collect/4]).
-export([init/6]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

%% An owner that is slow to take its mail is polled: at first without a pause,
%% because a timer is never shorter than a millisecond and an owner at full speed
%% empties a window in a fraction of that. The number of such polls bounds what an
%% owner that sleeps costs at once.
-define(SPINS, 100).
%% Then with pauses that double up to this. A larger number lets an owner that
%% wakes up wait for longer once it has emptied its window; a smaller one costs
%% more polls of owners that sleep.
-define(LONGEST_PAUSE_MS, 10).
%% They grow on while the owner is asleep, to a part of the time that it has slept, up to this:
%% polls of one that sleeps for long cost next to nothing, and it waits for a moment that
%% is short compared to its sleep.
-define(PART_OF_SLEEP, 20).
-define(LONGEST_PAUSE_ASLEEP_MS, 250).
%% The longest pause grows by itself for each of this many streams on the node, so
%% that ten thousand stalled ones cost no more than a hundred.
-define(STREAMS_PER_PAUSE, 100).

-record(stream, {
    ref :: reference(),
    owner :: pid(),
    sink :: py_sink:sink(),
    %% What yields the values. Until it is found there is none, and the request for it is kept.
    worker = none :: none | #worker{} | py_remote:remote(),
    request = none :: none | map(),
    %% While its worker's port has no room for it; and where else it may go if that ends.
    held = none :: none | {#worker{}, Opts :: map(), py_cluster:route()},
    %% While there is no worker for it, and how long it has waited, in native units.
    wait = none :: py_wait:wait(),
    queue_time = 0 :: non_neg_integer(),
    owner_monitor :: reference(),
    worker_monitor = none :: none | reference(),
    timeout :: timeout(),
    deadline = infinity :: py_clock:deadline(),
    window :: py_window:window(),
    mailbox :: py_mailbox:mailbox(),
    %% Polls since the owner was last seen to have taken something.
    polls = 0 :: non_neg_integer(),
    %% For those who watch; what has come so far; and how it ended.
    watched = none :: py_request:request() | none,
    values = 0 :: non_neg_integer(),
    bytes = 0 :: non_neg_integer(),
    outcome = {error, cancelled} :: done | {error, py_error:reason()}
}).

%% @doc Starts a stream on a worker, or wherever the route leads. `Opts' are checked options.
-spec start(#worker{} | py_cluster:route(), py_call:target(), reference(), map()) -> pid().
start(Worker, Target, Ref, Opts = #{owner := Owner}) ->
    Sink =
        case Opts of
            #{batch := _} -> batches;
            #{} -> each
        end,
    start(Worker, Target, Ref, Owner, Sink, Opts).

%% @doc Runs a stream and returns all that it yields. The caller's mailbox is
%% as it was, whatever happens.
-spec collect(#worker{} | py_cluster:route(), py_call:target(), reference(), map()) ->
    {ok, [term()]} | {error, py_error:reason()}.
collect(Worker, Target, Ref, Opts) ->
    Alias = erlang:alias([reply]),
    Pid = start(Worker, Target, Ref, self(), {collect, Alias, []}, Opts),
    Monitor = erlang:monitor(process, Pid),
    receive
        {Alias, Result} ->
            erlang:demonitor(Monitor, [flush]),
            Result;
        {'DOWN', Monitor, process, Pid, Reason} ->
            erlang:unalias(Alias),
            receive
                {Alias, Result} -> Result
            after 0 -> {error, {stream_exit, py_stream_guard:exit_reason(Reason)}}
            end
    end.

%% The caller writes the request, which keeps the arguments out of a second process. The
%% stream's process waits until that is done: a caller that is killed before leaves nothing.
start(Worker = #worker{}, Target, Ref, Owner, Sink, Opts) ->
    Pid = proc_lib:spawn(?MODULE, init, [self(), {near, Worker}, Ref, Owner, Sink, Opts#{what => what(Target)}]),
    py_stream_guard:watch({Ref, Pid, Owner, py_sink:addressee(Sink, Owner), Worker}),
    case py_port:write(Worker, py_frame:stream(py_frame:address(Pid), Ref, Owner, Opts, Target), 0) of
        {written, _} ->
            Pid ! {'begin', Ref},
            %% It was killed, and its end was sent, before Python knew of it.
            _ = is_process_alive(Pid) orelse py_port:cancel(Worker, Pid),
            ok;
        timeout ->
            %% The caller is not the one to wait for room.
            Pid ! {full, Ref, request(Target, Ref, Owner, Opts)},
            ok;
        {closed, _} ->
            %% Python never gets it: another worker may.
            Pid ! {unwritten, Ref, request(Target, Ref, Owner, Opts)},
            ok
    end,
    Pid;
start(Route, Target, Ref, Owner, Sink, Opts) ->
    %% The process itself sends the request on its way, because the answers are for it.
    Request = request(Target, Ref, Owner, Opts),
    Pid = proc_lib:spawn(?MODULE, init, [self(), {Route, Request}, Ref, Owner, Sink, Opts#{what => what(Target)}]),
    py_stream_guard:watch({Ref, Pid, Owner, py_sink:addressee(Sink, Owner), none}),
    Pid ! {'begin', Ref},
    Pid.

request(Target, Ref, Owner, Opts) ->
    #{target => Target, ref => Ref, owner => Owner, opts => py_options:given(Opts)}.

%% Arguments are not copied to the process.
what({Kind, A, B, _, _}) -> {Kind, A, B, [], []}.

%%% The process.

%% @private
-spec init(pid(), {near, #worker{}} | {py_cluster:route(), map()}, reference(), pid(), term(), map()) -> no_return().
init(Caller, Where, Ref, Owner, Sink, Opts = #{what := {_Kind, Module, Function, _, _}}) ->
    py_log:label(stream, {Module, Function}),
    OwnerMonitor = erlang:monitor(process, Owner),
    %% The caller may have written the request already, and the worker may have ended of it, see py_load.
    Monitored =
        case Where of
            {near, Near} -> {Near, erlang:monitor(process, Near#worker.pid), none};
            {_Route, Asked} -> {none, none, Asked}
        end,
    CallerMonitor = erlang:monitor(process, Caller),
    Route = py_cluster:here(maps:get(pool, Opts, default)),
    {Worker, WorkerMonitor, Request, Next} =
        receive
            {'begin', Ref} ->
                begun(Monitored, Where);
            {full, Ref, Unwritten} ->
                {Full, FullMonitor, none} = Monitored,
                {none, FullMonitor, Unwritten, {hold, {Full, Opts, Route}}};
            {unwritten, Ref, Unwritten} ->
                erlang:demonitor(element(2, Monitored), [flush]),
                {none, none, Unwritten, {find, Route}};
            {'DOWN', CallerMonitor, process, _, _} ->
                is_record(element(1, Monitored), worker) andalso py_port:cancel(element(1, Monitored), self()),
                py_streams:forget(Ref),
                exit(normal)
        end,
    erlang:demonitor(CallerMonitor, [flush]),
    #{window := Size, window_bytes := Bytes, timeout := Timeout} = Opts,
    S = awaited(#stream{
        ref = Ref,
        owner = Owner,
        sink = py_sink:new(Ref, Owner, Sink),
        worker = Worker,
        request = Request,
        watched = watched(Worker, Ref, Opts),
        owner_monitor = OwnerMonitor,
        worker_monitor = WorkerMonitor,
        timeout = Timeout,
        window = py_window:new(Size, Bytes, maps:get(demand, Opts, -1)),
        mailbox = py_mailbox:new(Owner, Ref)
    }),
    case Next of
        none -> gen_server:enter_loop(?MODULE, [], S, pause(S));
        _ -> gen_server:enter_loop(?MODULE, [], S, {continue, Next})
    end.

begun({Worker, Monitor, none}, {near, _}) -> {Worker, Monitor, none, none};
begun({none, none, Request}, {Route, _}) -> {none, none, Request, {find, Route}}.

watched(Worker, Ref, Opts = #{what := What}) ->
    py_request:enter(py_request:begun(stream, Worker, What, Ref, Opts), 0).

%%% gen_server callbacks. A server, and not a receive of its own: such a process survives
%%% that the code is loaded twice.

-spec init(term()) -> ignore.
init(_) ->
    ignore.

-spec handle_call(term(), gen_server:from(), #stream{}) -> {reply, term(), #stream{}, timeout()}.
handle_call(_Other, _From, S) ->
    {reply, {error, unknown}, S, pause(S)}.

-spec handle_cast(term(), #stream{}) -> {noreply, #stream{}, timeout()}.
handle_cast(_Other, S) ->
    noreply(S).

-spec handle_continue({find, py_cluster:route()} | {hold, tuple()}, #stream{}) ->
    {noreply, #stream{}, timeout()} | {stop, normal, #stream{}}.
handle_continue(Next, S) ->
    try
        noreply(continued(Next, S))
    catch
        throw:{finished, Last} -> {stop, normal, Last}
    end.

continued({find, Route = #route{pool = Pool}}, S = #stream{request = Request}) ->
    found(py_remote:open(stream, Request, Route), {no_pool, Pool}, S);
continued({hold, Held}, S) ->
    %% There was no room a moment ago.
    offer(1, S#stream{held = Held}).

%% What ends the stream is thrown, with its last state, from however deep.
-spec handle_info(term(), #stream{}) -> {noreply, #stream{}, timeout()} | {stop, normal, #stream{}}.
handle_info(Message, S) ->
    try
        noreply(message(Message, S))
    catch
        throw:{finished, Last} -> {stop, normal, Last}
    end.

noreply(S) ->
    {noreply, S, pause(S)}.

message({py_event, Payload}, S) ->
    poll(event(Payload, S));
message({py_far, Number, Seen, Payload}, S) when is_integer(Number) ->
    poll(far_event(Number, Seen, Payload, S));
message({py_last, Payload}, S) ->
    last(Payload, S);
message(timeout, S) ->
    poll_timeout(S);
message({find_worker, Route}, S) ->
    found({near, Route}, none, S);
message({offer, Ref, Tries}, S = #stream{ref = Ref, held = {_, _, _}}) ->
    offer(Tries, S);
message(py_stopped, S = #stream{worker = none}) ->
    terminal({error, {no_worker, {worker_exit, stopped}}}, S);
message(py_stopped, S) ->
    terminal({error, {worker_exit, stopped}}, S);
message({py_cancel, Ref}, S = #stream{ref = Ref}) ->
    stop(cancelled, S);
message({py_demand, Ref, N}, S = #stream{ref = Ref}) ->
    credit(S#stream{window = py_window:demand(N, S#stream.window)});
message({'DOWN', Monitor, process, _, _}, S = #stream{worker_monitor = Monitor, held = {_, _, Route}}) ->
    found({near, Route}, none, S#stream{held = none});
message({'DOWN', Monitor, process, _, Reason}, S = #stream{worker_monitor = Monitor, worker = Worker}) ->
    terminal({error, py_port:end_of(Worker, Reason)}, S);
message({'DOWN', Monitor, process, _, _}, S = #stream{owner_monitor = Monitor}) ->
    owner_gone(S);
message(Other, S = #stream{worker = Near}) when Near =:= none; is_record(Near, worker) ->
    mail(Other, S);
message(Other, S) ->
    far(Other, S).

%%% Another node.

%% The next node to ask, or none: then the reason of the last one counts.
found({far, Remote}, _Reason, S) ->
    S#stream{worker = Remote};
found(none, Reason, S) ->
    terminal({error, Reason}, S#stream{worker = none});
found({near, Route = #route{pool = Pool}}, _Reason, S = #stream{request = Request}) ->
    case reserve(Pool, Request) of
        {ok, Worker, Opts} -> near(Worker, Opts, Route, S);
        {error, Reason} -> not_found(Route, Reason, S)
    end.

not_found(Route, Reason, S = #stream{wait = Wait, request = Request}) ->
    case py_wait:not_found(Route, Reason, Wait) of
        {wait, NewWait} -> S#stream{wait = NewWait};
        {error, Why} -> terminal({error, Why}, S);
        elsewhere -> found(py_remote:open(stream, Request, Route), Reason, S)
    end.

reserve(Pool, #{opts := Given}) ->
    case py_pool:find(Pool) of
        {ok, Worker, Defaults} ->
            case py_load:reserve(stream, Worker) of
                ok -> {ok, Worker, py_options:stream(Given, Defaults)};
                Error -> Error
            end;
        Error ->
            Error
    end.

%% The choice fell on this node: from here on it is a stream as any other.
near(Worker = #worker{pid = Pid}, Opts, Route, S = #stream{ref = Ref, owner = Owner, sink = Sink}) ->
    py_stream_guard:watch({Ref, self(), Owner, py_sink:addressee(Sink), Worker}),
    offer(0, S#stream{worker_monitor = erlang:monitor(process, Pid), held = {Worker, Opts, Route}}).

%% The request is written when there is room for it.
offer(Tries, S = #stream{ref = Ref, owner = Owner, request = Request, held = {Worker, Opts, Route}, deadline = Deadline}) ->
    Frame = py_frame:stream(py_frame:address(self()), Ref, Owner, Opts, maps:get(target, Request)),
    case py_port:offer({Worker, Ref, Frame}, Tries) of
        written ->
            QueueTime = py_wait:queue_time(S#stream.wait),
            Found = S#stream{worker = Worker, held = none, queue_time = QueueTime},
            %% More may have been asked for before. The time for the first event has begun before, too.
            Begun = credit(accepted(maps:update_with(window, fun py_window:initial/1, Opts), Found)),
            Begun#stream{deadline = Deadline};
        full ->
            S;
        closed when Tries > 0 ->
            erlang:demonitor(S#stream.worker_monitor, [flush]),
            found({near, Route}, none, S#stream{held = none});
        closed ->
            erlang:demonitor(S#stream.worker_monitor, [flush]),
            not_found(Route, py_port:end_of(Worker), S#stream{held = none})
    end.

accepted(#{window := Size, window_bytes := Bytes}, S = #stream{window = Window}) ->
    S#stream{window = py_window:accepted(Size, Bytes, Window), request = none}.

%% What comes from another node, beside frames.
far(Message, S = #stream{worker = Remote}) ->
    case py_remote:message(Message, Remote) of
        {accepted, About, NewRemote} ->
            Accepted = accepted(About, S#stream{worker = NewRemote}),
            case py_window:is_demanded(Accepted#stream.window) of
                true -> credit(Accepted);
                false -> Accepted
            end;
        {last, Payload, NewRemote} ->
            last(Payload, S#stream{worker = NewRemote});
        {refused, Reason, Found} ->
            found(Found, Reason, S);
        {ended, Reason} ->
            terminal({error, Reason}, S);
        unrelated ->
            mail(Message, S)
    end.

%% A frame from another node, its number, and how far the window reached there.
far_event(Number, Seen, Payload, S = #stream{worker = Remote}) ->
    case py_remote:number(Number, Remote) of
        {ok, NewRemote} ->
            NewS = #stream{window = Window} = event(Payload, S#stream{worker = NewRemote}),
            NewS#stream{window = py_window:limit_seen(Seen, Window)};
        {ended, Reason} ->
            terminal({error, Reason}, S)
    end.

-spec terminate(term(), #stream{}) -> ok.
terminate(Reason, _S) ->
    py_status:without_mail(Reason).

%% Values are the owner's, and nobody else's to see.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    py_status:without_values(Status).

%%% Events.

event(Payload, S = #stream{sink = Sink, window = Window}) ->
    case py_sink:deliver(Payload, Sink) of
        {Values, Messages, NewSink} ->
            Size = byte_size(Payload),
            NewWindow = py_window:received(Values, Size, Messages, Window),
            awaited(counted(Values, Size, S#stream{sink = NewSink, window = NewWindow, polls = 0}));
        waiting ->
            S#stream{window = py_window:blocked(Window)};
        lost ->
            owner_gone(S);
        atom_limit ->
            stop(atom_limit, S);
        bad_frame ->
            protocol_error(S)
    end.

counted(Values, Size, S = #stream{worker = Worker, values = V, bytes = B}) ->
    is_record(Worker, worker) andalso py_counters:add(Worker, values, Values),
    S#stream{values = V + Values, bytes = B + Size}.

%% A frame that cannot be decoded, or is not this stream's, is the worker's
%% fault: it is replaced, and the stream ends with it.
-spec protocol_error(#stream{}) -> no_return().
protocol_error(S = #stream{worker = Worker}) ->
    case Worker of
        #worker{pid = Pid} -> py_port:replace(Pid, bad_frame);
        Remote -> py_remote:bad_frame(Remote)
    end,
    terminal({error, {worker_exit, bad_frame}}, S).

%%% The end.

-spec last(binary(), #stream{}) -> no_return().
last(Payload, S = #stream{sink = Sink}) ->
    case py_sink:decode(Payload, Sink) of
        {ok, {py_stream, _Ref, done}} -> terminal(done, S);
        {ok, {py_stream, _Ref, {error, Reason}}} -> terminal({error, py_error:reason(Reason)}, S);
        {error, atom_limit} -> stop(atom_limit, S);
        _ -> protocol_error(S)
    end.

-spec terminal(done | {error, term()}, #stream{}) -> no_return().
terminal(Event, S) ->
    deliver_end(Event, S),
    finish(S#stream{outcome = Event}).

%% The owner gets its answer before Python gets the cancel.
-spec stop(cancelled | timeout | atom_limit, #stream{}) -> no_return().
stop(Reason, S) ->
    deliver_end({error, Reason}, S),
    abandon(S),
    finish(S#stream{outcome = {error, Reason}}).

-spec owner_gone(#stream{}) -> no_return().
owner_gone(S = #stream{ref = Ref}) ->
    abandon(S),
    py_streams:forget(Ref),
    finish(S).

abandon(#stream{held = {Worker, _, _}}) ->
    %% Python never gets it.
    py_load:release(stream, Worker);
abandon(#stream{worker = Worker = #worker{}}) ->
    py_port:cancel(Worker, self());
abandon(_Far) ->
    %% The relay monitors this process, and ends what it runs for it.
    ok.

%% The row goes with the event: who finds a row of a process that was killed sends the
%% event for it. The process is never killed between the two, because a signal reaches a
%% process that runs when it has used up its reductions or waits, and it gets new ones here.
deliver_end(Event, #stream{ref = Ref, sink = Sink}) ->
    %% Made before: it may need the garbage collector, which takes reductions.
    Message = {py_stream, Ref, Event},
    erlang:yield(),
    py_sink:finish(Message, Sink),
    py_streams:forget(Ref).

-spec finish(#stream{}) -> no_return().
finish(S = #stream{worker = Worker}) ->
    Worker =:= none orelse is_record(Worker, worker) orelse py_remote:finished(Worker),
    py_request:ended(S#stream.watched, S#stream.outcome, #{
        values => S#stream.values, bytes => S#stream.bytes, queue_time => S#stream.queue_time
    }),
    throw({finished, S}).

%%% The window.

%% Polls the owner if Python has used half of its window, and gives Python credit if
%% enough was taken for a frame.
poll(S = #stream{window = Window}) ->
    case py_window:should_poll(Window) of
        true -> grant(update_in_flight(S));
        false -> S
    end.

%% What was collected was taken.
update_in_flight(S = #stream{sink = Sink, window = Window, mailbox = Mailbox, polls = Polls}) ->
    case py_sink:is_collecting(Sink) of
        true ->
            S#stream{window = py_window:observed(0, Window)};
        false ->
            InFlight = py_window:in_flight(Window),
            {Length, NewMailbox} = py_mailbox:poll(Mailbox, Polls, InFlight, py_window:sent(Window)),
            S#stream{window = py_window:observed(Length, Window), mailbox = NewMailbox}
    end.

%% What another node answers about its mailbox.
mail(Message, S = #stream{mailbox = Mailbox, window = Window}) ->
    case py_mailbox:answer(Message, Mailbox, py_window:sent(Window)) of
        {Length, NewMailbox} ->
            grant(S#stream{
                window = py_window:observed(Length, Window),
                mailbox = NewMailbox,
                polls = S#stream.polls + 1
            });
        unrelated ->
            S
    end.

grant(S = #stream{window = Window}) ->
    case py_window:grant(Window) of
        {true, NewWindow} -> credit(S#stream{window = NewWindow, polls = 0});
        {false, _} -> S
    end.

credit(S = #stream{worker = Worker, window = Window}) ->
    Credit = {Values, Bytes, Demand} = py_window:credit(Window),
    _ =
        case Worker of
            #worker{} -> py_port:write(Worker, py_frame:credit(py_frame:address(self()), Values, Bytes, Demand));
            none -> false;
            Remote -> py_remote:credit(Credit, Remote)
        end,
    awaited(S).

%%% The clock.

%% The time for the next event starts now.
awaited(S = #stream{timeout = infinity}) -> S;
awaited(S = #stream{timeout = Timeout}) -> S#stream{deadline = py_clock:deadline(Timeout)}.

pause(S = #stream{window = Window, deadline = Deadline}) ->
    NextPoll =
        case
            py_window:exhausted(Window) andalso py_window:in_flight(Window) > 0 andalso
                not py_mailbox:is_asking(S#stream.mailbox)
        of
            true -> pause_ms(S#stream.polls, S#stream.mailbox);
            false -> infinity
        end,
    case Deadline =/= infinity andalso py_window:waiting(Window) of
        true -> min(NextPoll, py_clock:left(Deadline));
        false -> NextPoll
    end.

pause_ms(Polls, _Mailbox) when Polls < ?SPINS -> 0;
pause_ms(Polls, Mailbox) ->
    Asleep = min(?LONGEST_PAUSE_ASLEEP_MS, py_mailbox:asleep(Mailbox) div ?PART_OF_SLEEP),
    Longest = max(Asleep, ?LONGEST_PAUSE_MS * (1 + py_streams:number() div ?STREAMS_PER_PAUSE)),
    min(Longest, 1 bsl min(Polls - ?SPINS, 20)).

poll_timeout(S = #stream{deadline = Deadline, window = Window, polls = Polls}) ->
    case py_window:waiting(Window) andalso py_clock:left(Deadline) =:= 0 of
        true ->
            stop(timeout, S);
        false ->
            Polls < ?SPINS andalso erlang:yield(),
            poll(S#stream{polls = Polls + 1})
    end.
