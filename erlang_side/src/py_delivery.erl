%% @doc A worker's second process: it decodes what Python code sends to other
%% processes and delivers it, in order, and starts a process for each callback
%% that Python code makes, so that the worker process itself never decodes.
%%
%% It ends after its worker, when it has delivered all that the worker handed
%% on.
%% @hidden
-module(py_delivery).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start/1]).

%% Python is sent what was delivered in steps of this many bytes, of 8 MiB that may
%% be under way.
-define(CREDIT_BYTES, 1024 * 1024).

-record(state, {
    worker_monitor :: reference(),
    credit :: py_credit:credit(),
    callbacks :: py_callback_queue:callbacks(),
    %% Who sends to another node, so that one that is slow to take its mail
    %% delays no other.
    remote_senders = #{} :: #{node() => pid()}
}).

%% @doc Starts the process; the caller is its worker and monitors it.
-spec start(#worker{}) -> {pid(), reference()}.
start(Worker) ->
    spawn_opt(fun() -> init(Worker) end, [monitor, {message_queue_data, off_heap}]).

init(Worker = #worker{pid = Pid}) ->
    loop(#state{
        worker_monitor = erlang:monitor(process, Pid),
        credit = py_credit:new(Worker, send, ?CREDIT_BYTES),
        callbacks = py_callback_queue:new(Worker)
    }).

loop(State = #state{worker_monitor = Monitor}) ->
    receive
        {send, Payload} ->
            loop(send(Payload, State));
        {reply, Ref, Payload} ->
            Ref ! {Ref, Payload},
            loop(State);
        {callback, Id, Payload} ->
            loop(State#state{callbacks = py_callback_queue:add(Id, Payload, State#state.callbacks)});
        {sent, Bytes} ->
            loop(sent(Bytes, State));
        {'DOWN', Monitor, process, _, _} ->
            maps:foreach(fun(_, Sender) -> Sender ! stop end, State#state.remote_senders);
        {'DOWN', Ended, process, _, Reason} ->
            loop(State#state{callbacks = py_callback_queue:ended(Ended, Reason, State#state.callbacks)});
        {timeout, Timer, stall} ->
            loop(State#state{callbacks = py_callback_queue:stalled(Timer, State#state.callbacks)})
    end.

%%% Messages.

send(Payload, State) ->
    Messages = py_frame:items(Payload),
    case deliver(Messages, State, []) of
        {[], NewState} -> sent(byte_size(Payload), NewState);
        %% Counted as sent when the last of them is.
        {Remote, NewState} -> send_remote(lists:reverse(Remote), byte_size(Payload), NewState)
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
    deliver_local(Where, Messages),
    Remote;
deliver_to({unknown, Name}, _Messages, Remote) ->
    no_such_name(Name),
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
        error:badarg -> {unknown, Name}
    end.

deliver_local(Name, Messages) when is_atom(Name) ->
    case whereis(Name) of
        undefined -> no_such_name(Name);
        Where -> deliver_local(Where, Messages)
    end;
deliver_local(Where, [Message | Rest]) ->
    Where ! Message,
    deliver_local(Where, Rest);
deliver_local(_Where, []) ->
    ok.

no_such_name(To) ->
    ?LOG_DEBUG(#{text => "Python code sent to a name that no process has", name => To}, #{
        domain => ?DOMAIN
    }).

send_remote(Remote, Size, State) ->
    Nodes = lists:usort([Node || {Node, _, _} <- Remote]),
    Share = Size div length(Nodes),
    lists:foldl(
        fun(Node, S) ->
            {Sender, NewS} = remote_sender(Node, S),
            Sender ! {send, [{To, Messages} || {N, To, Messages} <- Remote, N =:= Node], Share},
            NewS
        end,
        sent(Size - Share * length(Nodes), State),
        Nodes
    ).

remote_sender(Node, State = #state{remote_senders = Senders}) ->
    case Senders of
        #{Node := Pid} ->
            {Pid, State};
        #{} ->
            Delivery = self(),
            Pid = spawn_link(fun() -> remote_loop(Delivery) end),
            {Pid, State#state{remote_senders = Senders#{Node => Pid}}}
    end.

remote_loop(Delivery) ->
    receive
        {send, Messages, Size} ->
            _ = [To ! Message || {To, Run} <- Messages, Message <- Run],
            Delivery ! {sent, Size},
            remote_loop(Delivery);
        stop ->
            ok
    end.

sent(Bytes, State = #state{credit = Credit}) ->
    State#state{credit = py_credit:taken(Bytes, Credit)}.
