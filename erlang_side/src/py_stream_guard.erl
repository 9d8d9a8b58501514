%% @doc Watches the process of each stream. One that is killed, by a limit of the heap or by
%% whomever, cannot send its terminal event: this sends `{error, {stream_exit, Reason}}' for
%% it and has Python cancel, so that its slot comes back.
%%
%% It keeps what it needs to know in its state, not only in the table py_streams, which ends with
%% the top supervisor. When that ends, this waits for the streams that are left. If this itself
%% is killed, the next one finds the streams in the table.
%% @hidden
-module(py_stream_guard).
-behaviour(gen_server).

-export([start_link/0, watch/1, exit_reason/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-record(state, {streams = #{} :: #{pid() => py_streams:stream()}}).

%% No limit of the heap holds for it: nobody watches the last one that watches.
-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], [{spawn_opt, [{max_heap_size, 0}]}]).

%% @doc Enters a stream. Without a table or a guard, which is a moment after the top
%% supervisor was killed, nobody needs to: its worker ends as well.
-spec watch(py_streams:stream()) -> ok.
watch(Stream) ->
    case py_streams:enter(Stream) of
        true -> gen_server:cast(?MODULE, {watch, Stream});
        false -> ok
    end.

%%% gen_server callbacks.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    process_flag(trap_exit, true),
    {ok, lists:foldl(fun add/2, #state{}, py_streams:all())}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call(_Other, _From, State) ->
    {reply, {error, unknown}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast({watch, Stream}, State) ->
    {noreply, add(Stream, State)};
handle_cast(_Other, State) ->
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    {noreply, ended(Pid, Reason, State)};
handle_info(_Other, State) ->
    {noreply, State}.

%% Streams end with their workers, and workers before this, so there is an end to this; the others hear of
%% it. The name is free at once, for an application that is started again.
-spec terminate(term(), #state{}) -> ok.
terminate(_Reason, State = #state{streams = Streams}) ->
    _ = unregister(?MODULE),
    lists:foreach(fun stopped/1, maps:values(Streams)),
    wait(State).

%% It waits for a worker, or has one on another node.
stopped({_Ref, Pid, _Owner, _Addressee, none}) ->
    Pid ! py_stopped,
    ok;
stopped(_) ->
    ok.

wait(#state{streams = Streams}) when map_size(Streams) =:= 0 ->
    ok;
wait(State) ->
    receive
        {'DOWN', _, process, Pid, Reason} -> wait(ended(Pid, Reason, State));
        {'$gen_cast', {watch, Stream}} ->
            stopped(Stream),
            wait(add(Stream, State))
    end.

%% A guard that was just started has it from the table, and from the message as well. One whose
%% worker has to be chosen is entered again when it is.
add(Stream = {_, Pid, _, _, _}, State = #state{streams = Streams}) ->
    case Streams of
        #{Pid := _} ->
            State#state{streams = Streams#{Pid := Stream}};
        #{} ->
            _ = erlang:monitor(process, Pid),
            State#state{streams = Streams#{Pid => Stream}}
    end.

ended(Pid, Reason, State = #state{streams = Streams}) ->
    {Stream, Rest} = maps:take(Pid, Streams),
    _ = Reason =:= normal orelse tell(Reason, Stream),
    State#state{streams = Rest}.

%% The row goes with the terminal event. If the table is gone, the top supervisor was killed, and
%% only the reason says whether the stream came to its end.
tell(Reason, {Ref, Pid, _Owner, Addressee, Worker}) ->
    case py_streams:is_entered(Ref) of
        false when Reason =:= noproc ->
            ok;
        false ->
            cancel(Worker, Pid, Ref);
        unknown when Reason =:= noproc ->
            ok;
        _ ->
            Event = {py_stream, Ref, {error, {stream_exit, exit_reason(Reason)}}},
            %% If this is killed, it is not between the two, see deliver_end/2 of py_stream.
            erlang:yield(),
            is_pid(Addressee) andalso send(Addressee, Event),
            py_streams:forget(Ref),
            cancel(Worker, Pid, Ref)
    end.

cancel(none, _Pid, _Ref) -> ok;
cancel({call, Worker}, _Pid, Ref) -> py_port:cancel(Worker, Ref);
cancel(Worker, Pid, _Ref) -> py_port:cancel(Worker, Pid).

%% @doc Why a stream's process has ended. One that had before it was watched did not choose that.
-spec exit_reason(term()) -> term().
exit_reason(noproc) -> killed;
exit_reason(Reason) -> Reason.

%% An owner on another node may be slow to take it; nothing else waits for that.
send(Addressee, Event) ->
    erlang:send(Addressee, Event, [noconnect, nosuspend]) =:= nosuspend andalso
        try
            spawn(erlang, send, [Addressee, Event, [noconnect]])
        catch
            error:system_limit -> erlang:send(Addressee, Event, [noconnect])
        end.
