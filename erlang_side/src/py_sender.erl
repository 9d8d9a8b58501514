%% @doc A worker's second process: it decodes what Python code sends to other
%% processes and delivers it, in order, and starts a process for each request
%% that Python code makes, so that the worker process itself never decodes.
%%
%% It ends after its worker, when it has delivered all that the worker handed
%% on.
-module(py_sender).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start/1]).

%% Requests of one worker that run at a time, unless the application's
%% `max_callbacks' says otherwise; more of them wait in line. A larger number
%% costs memory in the node, a smaller one makes requests wait that could run.
-define(MAX_RUNNING, 1000).

%% Requests may wait for each other: a registered function calls Python, which
%% calls a registered function. Where none of those that run has ended for so
%% long although others are in line, one more starts; the next after half the
%% time, down to a millisecond. So a number that is too small for a chain of
%% calls slows it down, and never stops it for good.
-define(STALL_MS, 64).

%% Python is told what was delivered when it comes to so many bytes. It may have
%% 8 MiB under way, see room.py. A larger number makes it wait in larger steps, a
%% smaller one costs frames.
-define(CREDIT_BYTES, 1024 * 1024).

-record(state, {
    worker :: #worker{},
    worker_monitor :: reference(),
    %% Requests that run, at most so many, and those in line.
    max_running :: pos_integer(),
    running = #{} :: #{reference() => Id :: binary()},
    line = queue:new() :: queue:queue({Id :: binary(), Payload :: binary()}),
    stall = ?STALL_MS :: pos_integer(),
    stall_timer :: undefined | reference(),
    has_ended = false :: boolean(),
    %% Bytes taken in all, and how many of them Python was told of.
    sent = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    requested = {0, 0} :: {non_neg_integer(), non_neg_integer()},
    %% Who sends to another node, so that one that does not take its mail keeps
    %% nobody else's waiting.
    deputies = #{} :: #{node() => pid()}
}).

%% @doc Starts the process; the caller is its worker and monitors it.
-spec start(#worker{}) -> {pid(), reference()}.
start(Worker) ->
    spawn_opt(fun() -> init(Worker) end, [monitor, {message_queue_data, off_heap}]).

init(Worker = #worker{pid = Pid}) ->
    loop(#state{
        worker = Worker,
        worker_monitor = erlang:monitor(process, Pid),
        max_running = application:get_env(erlang_python, max_callbacks, ?MAX_RUNNING)
    }).

loop(State = #state{worker_monitor = Monitor}) ->
    receive
        {send, Payload} ->
            loop(send(Payload, State));
        {reply, Ref, Payload} ->
            Ref ! {Ref, Payload},
            loop(State);
        {request, Id, Payload} ->
            loop(request(Id, Payload, State));
        {sent, Bytes} ->
            loop(sent(Bytes, State));
        {'DOWN', Monitor, process, _, _} ->
            maps:foreach(fun(_, Deputy) -> Deputy ! stop end, State#state.deputies);
        {'DOWN', Ended, process, _, Reason} ->
            loop(ended(Ended, Reason, State));
        {timeout, Timer, stall} when Timer =:= State#state.stall_timer ->
            loop(stalled(State))
    end.

%%% Messages.

send(Payload, State) ->
    Messages = py_frame:items(Payload),
    case deliver(Messages, State, []) of
        {[], NewState} -> sent(byte_size(Payload), NewState);
        %% Counted as sent when the last of them is.
        {Remote, NewState} -> send_far(lists:reverse(Remote), byte_size(Payload), NewState)
    end.

deliver([{To, Message} | Rest], State, Remote) ->
    deliver(Rest, State, deliver_to(destination(To), [Message], Remote));
deliver([{To, run, Messages} | Rest], State, Remote) ->
    deliver(Rest, State, deliver_to(destination(To), Messages, Remote));
deliver([], State, Remote) ->
    {Remote, State};
deliver(_, _State, _Remote) ->
    exit(bad_frame).

deliver_to({local, Where}, Messages, Remote) ->
    deliver_here(Where, Messages),
    Remote;
deliver_to({nobody, Name}, _Messages, Remote) ->
    lost(Name),
    Remote;
deliver_to({Node, Where}, Messages, Remote) ->
    [{Node, Where, Messages} | Remote].

destination(Pid) when is_pid(Pid), node(Pid) =:= node() -> {local, Pid};
destination(Pid) when is_pid(Pid) -> {node(Pid), Pid};
destination(Ref) when is_reference(Ref), node(Ref) =:= node() -> {local, Ref};
destination(Ref) when is_reference(Ref) -> {node(Ref), Ref};
destination(Name) when is_atom(Name) -> {local, Name};
destination(Name) when is_binary(Name) -> existing(Name);
destination({Name, Node}) when is_atom(Name), Node =:= node() -> {local, Name};
destination({Name, Node}) when is_atom(Name), is_atom(Node) -> {Node, {Name, Node}};
destination(_) -> exit(bad_frame).

existing(Name) ->
    try
        {local, binary_to_existing_atom(Name)}
    catch
        error:badarg -> {nobody, Name}
    end.

deliver_here(Name, Messages) when is_atom(Name) ->
    case whereis(Name) of
        undefined -> lost(Name);
        Where -> deliver_here(Where, Messages)
    end;
deliver_here(Where, [Message | Rest]) ->
    Where ! Message,
    deliver_here(Where, Rest);
deliver_here(_Where, []) ->
    ok.

lost(To) ->
    ?LOG_DEBUG(#{text => "Python code sent to a name that nobody has", name => To}, #{
        domain => ?DOMAIN
    }).

send_far(Remote, Size, State) ->
    Nodes = lists:usort([Node || {Node, _, _} <- Remote]),
    Share = Size div length(Nodes),
    lists:foldl(
        fun(Node, S) ->
            {Deputy, NewS} = deputy(Node, S),
            Deputy ! {send, [{To, Messages} || {N, To, Messages} <- Remote, N =:= Node], Share},
            NewS
        end,
        sent(Size - Share * length(Nodes), State),
        Nodes
    ).

deputy(Node, State = #state{deputies = Deputies}) ->
    case Deputies of
        #{Node := Pid} ->
            {Pid, State};
        #{} ->
            Sender = self(),
            Pid = spawn_link(fun() -> deputy_loop(Sender) end),
            {Pid, State#state{deputies = Deputies#{Node => Pid}}}
    end.

deputy_loop(Sender) ->
    receive
        {send, Messages, Size} ->
            _ = [To ! Message || {To, Run} <- Messages, Message <- Run],
            Sender ! {sent, Size},
            deputy_loop(Sender);
        stop ->
            ok
    end.

sent(Bytes, State = #state{worker = Worker, sent = Sent}) ->
    State#state{sent = credit(send, Bytes, Sent, Worker)}.

credit(Kind, Bytes, {Total, Told}, Worker) when Total + Bytes - Told >= ?CREDIT_BYTES ->
    _ = py_worker:write(Worker, py_frame:taken(Kind, Total + Bytes)),
    {Total + Bytes, Total + Bytes};
credit(_Kind, Bytes, {Total, Told}, _Worker) ->
    {Total + Bytes, Told}.

%%% Requests.

request(Id, Payload, State = #state{running = Running, max_running = Max, line = Line}) ->
    case map_size(Running) < Max andalso queue:is_empty(Line) of
        true -> start_request(Id, Payload, State);
        false -> watch_line(State#state{line = queue:in({Id, Payload}, Line)})
    end.

start_request(Id, Payload, State = #state{worker = Worker, running = Running}) ->
    {_Pid, Monitor} = py_callback:start(Worker, Id, Payload),
    State#state{
        running = Running#{Monitor => Id},
        requested = credit(request, byte_size(Payload), State#state.requested, Worker)
    }.

ended(Monitor, Reason, State = #state{worker = Worker, running = Running}) ->
    {Id, Rest} = maps:take(Monitor, Running),
    Reason =:= normal orelse py_callback:failed(Worker, Id, Reason),
    next(State#state{running = Rest, stall = ?STALL_MS, has_ended = true}).

next(State = #state{running = Running, max_running = Max}) when map_size(Running) < Max ->
    start_next(State);
next(State) ->
    State.

start_next(State = #state{line = Line}) ->
    case queue:out(Line) of
        {{value, {Id, Payload}}, Rest} -> start_request(Id, Payload, State#state{line = Rest});
        {empty, _} -> State
    end.

watch_line(State = #state{stall_timer = undefined, stall = Stall}) ->
    Timer = erlang:start_timer(Stall, self(), stall),
    State#state{stall_timer = Timer, has_ended = false};
watch_line(State) ->
    State.

stalled(State = #state{line = Line, has_ended = HasEnded, stall = Stall}) ->
    Rung = State#state{stall_timer = undefined},
    case queue:is_empty(Line) of
        true -> Rung;
        false when HasEnded -> watch_line(Rung);
        false -> watch_line(start_next(Rung#state{stall = max(1, Stall div 2)}))
    end.
