%% @doc A worker: one Python process behind one port. It owns the port, reads
%% the header of each frame and hands the payload on undecoded; it lives exactly
%% as long as its Python process, so one monitor is enough for both.
%%
%% Requests do not pass through here: the process that makes one writes it to the
%% port, with its own pid or an alias as the address that answers are sent to.
%% @hidden
-module(py_worker).
-behaviour(gen_server).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start_link/3]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

%% How often a worker's signs of life are checked, unless the application's
%% `liveness_ms' says otherwise. A smaller number costs more checks, a larger one
%% leaves callers of a worker that is gone waiting for longer.
-define(LIVENESS_MS, 5000).

%% How long the exit status of a process that is gone may take to come. A smaller number loses it on
%% a busy machine, a larger one leaves callers waiting where a child holds the port's pipes open.
-define(STATUS_MS, 1000).

%% How often the memory of a busy worker is read; of an idle one it is at each check of its
%% signs of life. A smaller number costs more reads, of 30 us each.
-define(RSS_MS, 1000).

%% How often a worker checks whether processes that wait for a call have been killed. A smaller
%% number costs more checks, of 0.2 us for each call under way; a larger one lets code that
%% nobody waits for run on for longer.
-define(CALLERS_MS, 1000).

-record(state, {
    manager :: pid(),
    pool :: py_pool:name(),
    opts :: py_options:pool_options(),
    %% Until they were sent.
    settings :: py_settings:settings() | sent,
    worker :: #worker{} | undefined,
    os_process :: py_os:process() | undefined,
    %% Python itself, once it is ready; and when its memory was last looked up, in ms.
    python :: py_os:process() | undefined,
    limits :: py_recycling:limits(),
    %% Whether its manager knows that it has done enough.
    is_done = false :: boolean(),
    rss_at = 0 :: integer(),
    %% How many requests have waited in Python.
    waits = 0 :: non_neg_integer(),
    %% What Python reads from, see py_os:hold_open/2.
    input :: file:fd() | undefined,
    %% Where Python's faulthandler writes when it crashes.
    crash :: file:fd() | undefined,
    ready = false :: boolean(),
    %% Timers of cancelled requests, by address: the worker is replaced when one fires.
    %% Empty if kill_after is infinity.
    watched = #{} :: #{pid() | reference() => reference()},
    liveness = py_liveness:new(undefined, infinity) :: py_liveness:liveness(),
    %% How many requests were taken for ones that Python never got.
    corrected = {0, 0} :: py_liveness:load(),
    %% Handles what Python code sends by itself, see py_delivery.
    delivery :: {pid(), reference()} | undefined,
    %% The same for what it prints and logs, see py_output.
    output :: {pid(), reference()} | undefined,
    devices = py_devices:new() :: py_devices:devices()
}).

%% @doc Starts a worker for the process that calls, which gets
%% `{py_worker, Pid, {ready, Info, Worker}}' when Python takes work, or the
%% worker's exit with the reason.
-spec start_link(py_pool:name(), py_options:pool_options(), py_settings:settings()) -> {ok, pid()}.
start_link(Pool, PoolOpts, Settings) ->
    gen_server:start_link(?MODULE, {self(), Pool, PoolOpts, Settings}, []).

%%% gen_server callbacks.

-spec init({pid(), py_pool:name(), py_options:pool_options(), py_settings:settings()}) -> {ok, #state{}, {continue, open}}.
init({Manager, Pool, Opts, Settings}) ->
    process_flag(trap_exit, true),
    py_log:describe(worker, #{pool => Pool, worker => self()}),
    {ok, #state{manager = Manager, pool = Pool, opts = Opts, settings = Settings, limits = py_recycling:new(Opts)}, {continue, open}}.

-spec handle_continue(open, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(open, State = #state{opts = Opts}) ->
    case py_interpreter:command(State#state.pool, Opts) of
        {ok, {Program, PortOpts}} ->
            try opened(open_port({spawn_executable, Program}, PortOpts ++ port_options()), State) of
                NewState -> {noreply, NewState}
            catch
                %% `system_limit' is of ports or of processes.
                error:Posix ->
                    Why = unicode:characters_to_binary(io_lib:format("~ts: ~tp", [Program, Posix])),
                    stop({cannot_start, Why}, State)
            end;
        {error, Reason} ->
            stop(Reason, State)
    end.

opened(Port, State = #state{opts = Opts}) ->
    Worker = worker(Port, State#state.pool, Opts),
    Process = py_os:of_port(Port),
    py_log:describe(worker, #{pool => State#state.pool, worker => self(), os_pid => py_os:pid(Process)}),
    py_reaper:adopt(State#state.manager, Process),
    Delivery = py_delivery:start(Worker, py_os:pid(Process)),
    Output = py_output:start(Worker, py_os:pid(Process)),
    start_deadline(Opts),
    State#state{
        worker = Worker,
        os_process = Process,
        liveness = py_liveness:new(Process, deaf_ticks(Opts)),
        delivery = Delivery,
        output = Output
    }.

port_options() ->
    [{packet, 4}, binary, exit_status, {busy_limits_port, disabled}].

worker(Port, Pool, #{max_streams := Max, kill_after := KillAfter, caller_functions := CallerFunctions}) ->
    Load = py_load:new(),
    Counters =
        case py_pool:counters(Pool) of
            none -> none;
            OfPool -> {OfPool, py_counters:new(worker)}
        end,
    #worker{
        pid = self(),
        port = Port,
        load = Load,
        max_streams = Max,
        kill_after = KillAfter,
        pool = Pool,
        counters = Counters,
        callers = py_callers:new(),
        caller_functions = CallerFunctions
    }.

start_deadline(#{start_timeout := infinity}) -> ok;
start_deadline(#{start_timeout := Ms}) ->
    _ = erlang:send_after(Ms, self(), {start_timeout, Ms}),
    ok.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(os_pid, _From, State = #state{os_process = Process}) ->
    {reply, py_os:pid(Process), State};
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast({watch, Address, Ms}, State = #state{watched = Watched}) ->
    Timer = erlang:start_timer(Ms, self(), {stuck, Address}),
    {noreply, State#state{watched = Watched#{Address => Timer}}};
handle_cast({replace, Reason}, State = #state{ready = false}) ->
    stop({cannot_start, py_interpreter:exited(Reason, State#state.opts)}, State);
handle_cast({replace, Reason}, State) ->
    ?LOG_ERROR(#{text => "a Python worker is replaced", reason => Reason}, ?LOG_META),
    stop({worker_exit, Reason}, State).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({Port, {data, Data}}, State = #state{worker = #worker{port = Port}}) ->
    frame(py_frame:parse(Data), State);
handle_info({Port, {exit_status, Code}}, State = #state{worker = #worker{port = Port}}) ->
    exited(py_os:status(Code), State);
handle_info({'EXIT', Port, epipe}, State = #state{worker = #worker{port = Port}}) ->
    %% Something was written to it just when it ended, and its input was not held open: that
    %% closes the port, and no message with the status will come.
    exited(exit_unknown, State);
handle_info({'EXIT', Port, Reason}, State = #state{worker = #worker{port = Port}}) ->
    exited(Reason, State);
handle_info({'EXIT', Manager, Reason}, State = #state{manager = Manager}) ->
    stop(Reason, State);
handle_info({'DOWN', Monitor, process, Pid, Reason}, State = #state{delivery = {Pid, Monitor}}) ->
    stop_replace(reason(Reason), State);
handle_info({'DOWN', Monitor, process, Pid, Reason}, State = #state{output = {Pid, Monitor}}) ->
    stop_replace(reason(Reason), State);
handle_info(max_age, State) ->
    {noreply, done(max_age, State)};
handle_info({start_timeout, Ms}, State = #state{ready = false}) ->
    stop({start_timeout, Ms}, State);
handle_info({timeout, Timer, {stuck, Address}}, State = #state{watched = Watched}) ->
    case Watched of
        #{Address := Timer} -> stop_replace(kill_after, State);
        #{} -> {noreply, State}
    end;
handle_info(callers, State = #state{worker = Worker}) ->
    [py_port:cancel(Worker, Ref) || Ref <- py_callers:take_dead(Worker)],
    check_callers_later(),
    {noreply, State};
handle_info(liveness, State) ->
    liveness(State);
handle_info(no_exit_status, State) ->
    stop({worker_exit, exit_unknown}, State);
handle_info(Other, State = #state{worker = Worker = #worker{}, devices = Devices}) ->
    case py_devices:message(Other, Worker, Devices) of
        unrelated -> {noreply, State};
        New -> {noreply, State#state{devices = New}}
    end;
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{worker = undefined}) ->
    ok;
terminate(Reason, State = #state{worker = Worker}) ->
    {worker_exit, Status} = py_error:worker_exit(Reason),
    ok = py_load:ends(Worker, Status),
    close(Reason, State),
    py_status:without_mail(Reason).

close(Reason, #state{worker = Worker = #worker{port = Port}, ready = IsReady, opts = Opts}) ->
    py_workers:forget(self()),
    %% Python then leaves as Python leaves, and the reaper gives it the time.
    IsReady andalso is_orderly(Reason) andalso py_port:write(Worker, py_frame:stop()) andalso
        py_reaper:allow(maps:get(stop_timeout, Opts)),
    try
        port_close(Port),
        ok
    catch
        error:badarg -> ok
    end.

%% The pool's variables are nobody else's to see.
-spec format_status(gen_server:format_status()) -> gen_server:format_status().
format_status(Status) ->
    py_status:without_values(Status).

%% Whether it was the node that wanted the end, and Python is not at fault.
is_orderly(Reason) -> Reason =:= shutdown orelse Reason =:= normal.

stop(Reason, State) ->
    {stop, {shutdown, Reason}, State}.

exited(Status, State = #state{ready = true}) ->
    log_crash(State),
    stop({worker_exit, Status}, State);
exited(Status, State = #state{opts = Opts}) ->
    stop({cannot_start, py_interpreter:exited(Status, Opts)}, State).

reason({shutdown, Reason}) -> Reason;
reason(Reason) -> Reason.

%% Ends a worker that breaks the protocol or is stuck; the manager starts another.
stop_replace(Reason, State) ->
    handle_cast({replace, Reason}, State).

%%% Frames.

frame(Frame, State = #state{liveness = Liveness}) when element(1, Frame) =/= pong ->
    handle_frame(Frame, State#state{liveness = py_liveness:received(Liveness)});
frame({pong, Requests, Streams}, State = #state{ready = true, worker = Worker}) ->
    {Surplus, Liveness} = py_liveness:pong({Requests, Streams}, State#state.liveness),
    subtract_load(Worker, Surplus, State#state{liveness = Liveness});
frame(_, State) ->
    stop_replace(bad_frame, State).

handle_frame({event, Pid, Payload}, State = #state{ready = true, worker = Worker}) ->
    py_counters:add(Worker, bytes, byte_size(Payload)),
    Pid ! {py_event, Payload},
    {noreply, State};
handle_frame({last, Pid, Payload}, State = #state{ready = true}) ->
    Pid ! {py_last, Payload},
    request_done(Pid, {1, 1}, State);
handle_frame({reply, Ref, Payload}, State = #state{ready = true, worker = Worker}) ->
    py_counters:add(Worker, bytes, byte_size(Payload)),
    Ref ! {Ref, Payload},
    reply_done(Ref, State);
handle_frame({reply_after_sends, Ref, Payload}, State = #state{ready = true, delivery = {Delivery, _}}) ->
    Delivery ! {reply, Ref, Payload},
    reply_done(Ref, State);
handle_frame({not_running, Address, <<>>}, State = #state{ready = true}) ->
    {noreply, forget_timer(Address, State)};
%% Code that runs before the worker is ready may send and ask, too.
handle_frame({send, none, Payload}, State = #state{delivery = {Delivery, _}}) ->
    Delivery ! {send, Payload},
    {noreply, State};
handle_frame({callback, Id, Payload}, State = #state{delivery = {Delivery, _}}) ->
    Delivery ! {callback, Id, Payload},
    {noreply, State};
handle_frame({Kind, none, Payload}, State = #state{output = {Output, _}}) when
    Kind =:= output; Kind =:= log
->
    Output ! {Kind, Payload},
    {noreply, State};
%% A request's output is with the device before its result is with the caller. A connection that is
%% busy suspends whoever sends: that is not for this process.
handle_frame({output, Device = {Pid, _}, Payload}, State = #state{devices = Devices}) when node(Pid) =:= node() ->
    {noreply, State#state{devices = py_devices:print(Device, Payload, Devices)}};
handle_frame({output, Device, Payload}, State = #state{output = {Output, _}}) ->
    Output ! {output, Device, Payload},
    {noreply, State};
handle_frame({stacks, Ref, Payload}, State) ->
    Ref ! {Ref, Payload},
    {noreply, State};
handle_frame({pulse, none, Payload}, State) ->
    case py_etf:decode(Payload) of
        {ok, Stats = #{waits := Waits}} ->
            py_workers:update(self(), [{stats, maps:remove(waits, Stats)}]),
            py_counters:add(State#state.worker, waits, Waits - State#state.waits),
            {noreply, update_rss(State#state{waits = Waits})};
        _ ->
            stop_replace(bad_frame, State)
    end;
%% What never speaks is never written to: a write to a program that has ended would close the
%% port before its exit status comes.
%% The number becomes that of a process group to kill: 1 would be all processes.
handle_frame({hello, none, <<OsPid:32>>}, State = #state{settings = Settings = #{}, os_process = Process, worker = Worker}) when
    OsPid > 1
->
    All = Settings#{
        <<"level">> => py_output:level(),
        <<"worker">> => self(),
        <<"pool">> => State#state.pool,
        <<"node">> => {bytes, py_frame:node_of_references()},
        <<"os_pid">> => py_os:pid(Process),
        <<"node_os_pid">> => list_to_integer(os:getpid())
    },
    py_reaper:identify(OsPid, children(State)),
    _ = py_port:write(Worker, py_frame:settings(All)),
    {noreply, State#state{settings = sent}};
handle_frame({ready, none, Payload}, State = #state{ready = false, manager = Manager, worker = Worker}) ->
    case py_etf:decode(Payload) of
        {ok, Info = #{os_pid := OsPid}} when is_integer(OsPid), OsPid > 0 ->
            About = maps:without([input, crash, stacks, os_pid, counters], Info),
            py_workers:enter(Worker, State#state.pool, maps:without([input, crash], Info)),
            schedule_liveness(),
            check_callers_later(),
            Ready = State#state{
                ready = true,
                python = py_os:of_pid(OsPid),
                input = hold(input, Info, State),
                crash = hold(crash, Info, State)
            },
            Known = update_rss(Ready),
            Manager ! {py_worker, self(), {ready, About, Worker}},
            {noreply, start_age(Known)};
        _ ->
            stop_replace(bad_frame, State)
    end;
handle_frame({changed, none, File}, State) ->
    {noreply, done({reload, File}, State)};
handle_frame({leaving, none, <<>>}, State = #state{ready = true, manager = Manager}) ->
    Manager ! {py_worker, self(), leaving},
    {noreply, State};
handle_frame({failed, none, Why}, State = #state{ready = false}) ->
    ?LOG_ERROR("a Python worker failed to start: ~ts", [Why], ?LOG_META),
    stop({cannot_start, Why}, State);
handle_frame({failed, none, Why}, State) ->
    stop_replace({failed, Why}, State);
handle_frame(_, State) ->
    stop_replace(bad_frame, State).

children(#state{opts = #{children := Children}}) -> Children.

hold(Key, Info, #state{os_process = Process}) ->
    case Info of
        #{Key := Fd} when is_integer(Fd), Fd >= 0 -> py_os:hold_open(Process, Fd);
        #{} -> undefined
    end.

log_crash(#state{crash = undefined}) ->
    ok;
log_crash(#state{crash = Crash}) ->
    case file:read(Crash, 65536) of
        {ok, Text} -> ?LOG_ERROR("a Python worker crashed:~n~ts", [Text], ?LOG_META);
        _ -> ok
    end.

reply_done(Ref, State = #state{worker = Worker}) ->
    py_callers:leave(Worker, Ref),
    request_done(Ref, {1, 0}, State).

request_done(Address, Ended, State) ->
    case count_ended(Ended, State) of
        {ok, Counted} -> {noreply, forget_timer(Address, served(Counted))};
        error -> stop_replace(bad_frame, State)
    end.

count_ended(Ended, State = #state{worker = Worker, liveness = Liveness}) ->
    case py_load:ended(Worker, Ended, State#state.corrected) of
        {ok, Lost} -> {ok, State#state{corrected = Lost, liveness = py_liveness:ended(Ended, Liveness)}};
        error -> error
    end.

forget_timer(Address, State = #state{watched = Watched}) ->
    case maps:take(Address, Watched) of
        {Timer, Rest} ->
            _ = erlang:cancel_timer(Timer),
            State#state{watched = Rest};
        error ->
            State
    end.

served(State = #state{limits = Limits}) ->
    case py_recycling:request_done(Limits) of
        {more, Limits} -> State;
        {more, Left} -> State#state{limits = Left};
        {enough, Left} -> done(max_requests, State#state{limits = Left})
    end.

%% It goes on until its manager has another worker in its place.
done(_Why, State = #state{is_done = true}) ->
    State;
done(Why, State = #state{manager = Manager}) ->
    Manager ! {py_worker, self(), {done, Why}},
    State#state{is_done = true}.

start_age(State = #state{limits = Limits}) ->
    _ =
        case py_recycling:age(Limits) of
            infinity -> ok;
            Ms -> erlang:send_after(Ms, self(), max_age)
        end,
    State.

%%% Signs of life.

schedule_liveness() ->
    _ = erlang:send_after(liveness_ms(), self(), liveness),
    ok.

check_callers_later() ->
    _ = erlang:send_after(?CALLERS_MS, self(), callers),
    ok.

liveness_ms() ->
    application:get_env(erlang_python, liveness_ms, ?LIVENESS_MS).

deaf_ticks(#{deaf_after := infinity}) -> infinity;
deaf_ticks(#{deaf_after := Ms}) -> max(1, ceil(Ms / liveness_ms())).

liveness(State = #state{worker = Worker, liveness = Liveness}) ->
    {Finding, NewLiveness} = py_liveness:tick(py_load:counts(Worker), Liveness),
    py_workers:update(self(), [{is_silent, py_liveness:is_silent(NewLiveness)}]),
    py_request:sweep(self()),
    py_frame:remember_name(),
    NewState = update_rss(State#state{liveness = NewLiveness}),
    case Finding of
        exit_unknown ->
            _ = erlang:send_after(?STATUS_MS, self(), no_exit_status),
            {noreply, NewState};
        unresponsive ->
            stop_replace(unresponsive, NewState);
        ping ->
            IsFull = py_port:is_full(Worker),
            _ = py_port:write(Worker, py_frame:ping()),
            schedule_liveness(),
            %% Some may have counted their requests and wait until they may write them.
            case IsFull of
                true -> {noreply, NewState#state{liveness = py_liveness:uncertain(NewState#state.liveness)}};
                false -> {noreply, NewState}
            end;
        deaf ->
            ?LOG_WARNING(
                #{text => "a Python worker does not answer", pool => State#state.pool, worker => self()}, ?LOG_META
            ),
            schedule_liveness(),
            {noreply, NewState};
        quiet ->
            schedule_liveness(),
            {noreply, NewState}
    end.

%% Not with each pulse of a busy worker.
update_rss(State = #state{rss_at = At, python = Python}) ->
    case erlang:monotonic_time(millisecond) of
        Now when Now - At >= ?RSS_MS orelse At =:= 0 ->
            Rss = py_os:rss(Python),
            py_workers:update(self(), [{rss, Rss}]),
            case py_recycling:is_too_large(Rss, State#state.limits) of
                true -> done(max_rss, State#state{rss_at = Now});
                false -> State#state{rss_at = Now}
            end;
        _ ->
            State
    end.

subtract_load(Worker, {Requests, Streams} = Surplus, State = #state{corrected = {R, S}}) ->
    ok = py_load:subtract(Worker, Surplus),
    {noreply, State#state{corrected = {R + Requests, S + Streams}}}.
