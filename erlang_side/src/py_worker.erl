%% @doc A worker: one Python process behind one port. It owns the port, reads
%% the header of each frame and hands the payload on undecoded; it lives exactly
%% as long as its Python process, so whoever monitors it learns of both.
%%
%% Requests do not pass through here: whoever makes one writes it to the port,
%% with its own pid or an alias as the address that answers are sent to.
-module(py_worker).
-behaviour(gen_server).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start_link/2, replace/2, watch/2, write/2]).
-export([init/1, handle_continue/2, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

%% A worker that sent nothing for so long, while it had requests to answer, is
%% looked at: exit_status messages can be lost. A smaller number costs a look
%% more often, a larger one leaves callers of a lost worker waiting for longer.
-define(LIVENESS_MS, 10000).

%% A large frame waits while the port holds more than this. A larger number
%% costs memory in the node while Python is busy; a smaller one leaves the pipe
%% idle between frames.
-define(LARGE_FRAME, 65536).
-define(QUEUE_LIMIT, 16 * 1024 * 1024).

-record(state, {
    manager :: pid(),
    opts :: py_options:pool_options(),
    settings :: map(),
    worker :: #worker{} | undefined,
    os_process :: py_os:process() | undefined,
    ready = false :: boolean(),
    %% Cancelled requests, by address, that the worker is replaced for if they
    %% do not end in time. Empty where kill_after is infinity.
    watched = #{} :: #{pid() | reference() => reference()},
    heard = true :: boolean(),
    sender :: pid() | undefined
}).

%% @doc Starts a worker for the process that calls, which gets
%% `{py_worker, Pid, {ready, Info, Worker}}' when Python takes work, or the
%% worker's exit with the reason.
-spec start_link(py_options:pool_options(), map()) -> {ok, pid()}.
start_link(PoolOpts, Settings) ->
    gen_server:start_link(?MODULE, {self(), PoolOpts, Settings}, []).

%% @doc Ends a worker whose Python process is stuck or makes no sense. The
%% manager starts another.
-spec replace(pid(), term()) -> ok.
replace(Pid, Reason) ->
    gen_server:cast(Pid, {replace, Reason}).

%% @doc The request with this address was cancelled: unless it ends within the
%% pool's `kill_after', the worker is replaced.
-spec watch(#worker{}, pid() | reference()) -> ok.
watch(#worker{kill_after = infinity}, _Address) -> ok;
watch(#worker{pid = Pid, kill_after = Ms}, Address) -> gen_server:cast(Pid, {watch, Address, Ms}).

%% @doc Writes a frame, from whatever process. The port is opened so that it is
%% never busy: a process that writes is not suspended, and large frames are
%% held back here instead. `false' where the port is closed: the worker's
%% monitors tell why.
-spec write(#worker{}, iodata()) -> boolean().
write(#worker{port = Port}, Frame) ->
    try
        iolist_size(Frame) > ?LARGE_FRAME andalso wait_for_room(Port),
        port_command(Port, Frame)
    catch
        error:badarg -> false
    end.

wait_for_room(Port) ->
    case erlang:port_info(Port, queue_size) of
        {queue_size, Size} when Size > ?QUEUE_LIMIT ->
            timer:sleep(2),
            wait_for_room(Port);
        _ ->
            ok
    end.

%%% gen_server callbacks.

-spec init({pid(), py_options:pool_options(), map()}) -> {ok, #state{}, {continue, open}}.
init({Manager, Opts, Settings}) ->
    process_flag(trap_exit, true),
    {ok, #state{manager = Manager, opts = Opts, settings = Settings}, {continue, open}}.

-spec handle_continue(open, #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_continue(open, State = #state{opts = Opts, settings = Settings}) ->
    case py_python:command(Opts) of
        {ok, {Program, PortOpts}} ->
            try open_port({spawn_executable, Program}, PortOpts ++ port_options()) of
                Port ->
                    Worker = worker(Port, Opts),
                    true = write(Worker, py_frame:settings(Settings)),
                    start_deadline(Opts),
                    {noreply, State#state{worker = Worker, os_process = py_os:of_port(Port)}}
            catch
                error:Posix ->
                    stop({cannot_start, iolist_to_binary(io_lib:format("~tp", [Posix]))}, State)
            end;
        {error, Reason} ->
            stop(Reason, State)
    end.

port_options() ->
    [{packet, 4}, binary, exit_status, {busy_limits_port, disabled}].

worker(Port, #{max_streams := Max, kill_after := KillAfter}) ->
    Load = atomics:new(2, [{signed, true}]),
    #worker{pid = self(), port = Port, load = Load, max_streams = Max, kill_after = KillAfter}.

start_deadline(#{start_timeout := infinity}) -> ok;
start_deadline(#{start_timeout := Ms}) -> erlang:send_after(Ms, self(), {start_timeout, Ms}).

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(os_pid, _From, State = #state{os_process = Process}) ->
    {reply, py_os:pid(Process), State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_cast({watch, Address, Ms}, State = #state{watched = Watched}) ->
    Timer = erlang:start_timer(Ms, self(), {stuck, Address}),
    {noreply, State#state{watched = Watched#{Address => Timer}}};
handle_cast({replace, Reason}, State) ->
    ?LOG_ERROR(#{text => "a Python worker is replaced", reason => Reason}, #{domain => ?DOMAIN}),
    stop({worker_exit, Reason}, State).

-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info({Port, {data, Data}}, State = #state{worker = #worker{port = Port}}) ->
    frame(py_frame:parse(Data), State#state{heard = true});
handle_info({Port, {exit_status, Code}}, State = #state{worker = #worker{port = Port}}) ->
    stop({worker_exit, py_os:status(Code)}, State);
handle_info({'EXIT', Port, Reason}, State = #state{worker = #worker{port = Port}}) ->
    stop({worker_exit, Reason}, State);
handle_info({'EXIT', Manager, Reason}, State = #state{manager = Manager}) ->
    stop(Reason, State);
handle_info({start_timeout, Ms}, State = #state{ready = false}) ->
    stop({start_timeout, Ms}, State);
handle_info({timeout, Timer, {stuck, Address}}, State = #state{watched = Watched}) ->
    case Watched of
        #{Address := Timer} -> handle_cast({replace, kill_after}, State);
        #{} -> {noreply, State}
    end;
handle_info(liveness, State) ->
    liveness(State);
handle_info(_Other, State) ->
    {noreply, State}.

-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, #state{worker = undefined}) ->
    ok;
terminate(_Reason, #state{worker = #worker{port = Port}, os_process = Process}) ->
    catch port_close(Port),
    py_os:reap(Process).

stop(Reason, State) ->
    {stop, {shutdown, Reason}, State}.

%%% Frames.

frame({event, Pid, Payload}, State) ->
    Pid ! {py_event, Payload},
    {noreply, State};
frame({last, Pid, Payload}, State = #state{worker = #worker{load = Load}}) ->
    Pid ! {py_last, Payload},
    atomics:sub(Load, ?LOAD_STREAMS, 1),
    ended(Pid, State);
frame({reply, Ref, Payload}, State) ->
    Ref ! {Ref, Payload},
    ended(Ref, State);
frame({ready, none, Payload}, State = #state{ready = false, manager = Manager}) ->
    Info = binary_to_term(Payload),
    Manager ! {py_worker, self(), {ready, Info, State#state.worker}},
    erlang:send_after(?LIVENESS_MS, self(), liveness),
    {noreply, State#state{ready = true}};
frame({failed, none, Why}, State) ->
    stop({cannot_start, Why}, State);
frame(pong, State) ->
    {noreply, State};
frame({Kind, Id, Payload}, State = #state{ready = true}) ->
    {noreply, py_outgoing(Kind, Id, Payload, State)};
frame(_, State) ->
    handle_cast({replace, bad_frame}, State).

py_outgoing(_Kind, _Id, _Payload, State) ->
    State.

ended(Address, State = #state{worker = #worker{load = Load}, watched = Watched}) ->
    atomics:sub(Load, ?LOAD_REQUESTS, 1),
    case maps:take(Address, Watched) of
        {Timer, Rest} ->
            _ = erlang:cancel_timer(Timer),
            {noreply, State#state{watched = Rest}};
        error ->
            {noreply, State}
    end.

%% A worker with nothing to do is quiet by right. One that has requests to
%% answer and was quiet is pinged, for a frame or for the port's own notice of
%% its death; and its process is looked for.
liveness(State = #state{heard = Heard, worker = Worker, os_process = Process}) ->
    Quiet = not Heard andalso atomics:get(Worker#worker.load, ?LOAD_REQUESTS) > 0,
    case Quiet andalso not py_os:is_alive(Process) of
        true ->
            stop({worker_exit, lost}, State);
        false ->
            erlang:send_after(?LIVENESS_MS, self(), liveness),
            {noreply, State#state{heard = false}}
    end.
