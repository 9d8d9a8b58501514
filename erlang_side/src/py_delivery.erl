%% @doc A worker's second process: it decodes what Python code sends to other
%% processes and delivers it, in order, and starts a process for each callback
%% that Python code makes, so that the worker process itself never decodes.
%%
%% It ends after its worker, when it has delivered all that the worker handed
%% on.
%% @hidden
-module(py_delivery).
-behaviour(gen_server).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([start/2]).
-export([enter/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).

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
-spec start(#worker{}, OsPid :: pos_integer() | undefined) -> {pid(), reference()}.
start(Worker, OsPid) ->
    proc_lib:spawn_opt(?MODULE, enter, [{Worker, OsPid}], [monitor, {message_queue_data, off_heap}]).

%% @private
-spec enter({#worker{}, pos_integer() | undefined} | pid()) -> no_return().
enter({Worker = #worker{pid = Pid, pool = Pool}, OsPid}) ->
    py_log:describe(delivery, #{pool => Pool, worker => Pid, os_pid => OsPid}),
    gen_server:enter_loop(?MODULE, [], #state{
        worker_monitor = erlang:monitor(process, Pid),
        credit = py_credit:new(Worker, send, ?CREDIT_BYTES),
        callbacks = py_callback_queue:new(Worker)
    });
enter(Delivery) when is_pid(Delivery) ->
    gen_server:enter_loop(?MODULE, [], {remote_sender, Delivery}).

%%% gen_server callbacks, also of those who send to other nodes. Servers, because such a process
%%% survives that the code is loaded twice.

-type state() :: #state{} | {remote_sender, Delivery :: pid()}.

-include("py_entered.hrl").

%% What the worker sent may be no term that it should be. That is the end of the worker, which
%% reports it.
-spec handle_info(term(), state()) -> {noreply, state()} | {stop, term(), state()}.
handle_info(Message, State = #state{worker_monitor = Monitor}) ->
    case Message of
        {'DOWN', Monitor, process, _, _} ->
            maps:foreach(fun(_, Sender) -> Sender ! stop end, State#state.remote_senders),
            {stop, normal, State};
        _ ->
            try
                {noreply, message(Message, State)}
            catch
                exit:Reason -> {stop, {shutdown, Reason}, State}
            end
    end;
handle_info({send, Messages, Size}, Sender = {remote_sender, Delivery}) ->
    send_all(Messages),
    Delivery ! {sent, Size},
    {noreply, Sender};
handle_info(stop, Sender) ->
    {stop, normal, Sender}.

message({send, Payload}, State) ->
    send(Payload, State);
message({reply, Ref, Payload}, State) ->
    Ref ! {Ref, Payload},
    State;
message({callback, Id, Payload}, State = #state{callbacks = Callbacks}) ->
    State#state{callbacks = py_callback_queue:add(Id, Payload, Callbacks)};
message({sent, Bytes}, State) ->
    sent(Bytes, State);
message({'DOWN', Ended, process, _, Reason}, State = #state{callbacks = Callbacks}) ->
    State#state{callbacks = py_callback_queue:ended(Ended, Reason, Callbacks)};
message({timeout, Timer, stall}, State = #state{callbacks = Callbacks}) ->
    State#state{callbacks = py_callback_queue:stalled(Timer, Callbacks)}.

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

destination(Id) when is_pid(Id); is_reference(Id) ->
    case py_frame:localized(Id) of
        Local when node(Local) =:= node() -> {local, Local};
        Remote -> {node(Remote), Remote}
    end;
destination(Name) when is_atom(Name) -> {local, Name};
destination(Name) when is_binary(Name) -> existing(Name);
destination({Name, Node}) when is_atom(Name), is_atom(Node) ->
    case py_frame:is_own_name(Node) of
        true -> {local, Name};
        false -> {Node, {Name, Node}}
    end;
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
    ?LOG_DEBUG(#{text => "Python code sent to a name that no process has", name => To}, ?LOG_META).

send_remote(Remote, Size, State) ->
    Nodes = lists:usort([Node || {Node, _, _} <- Remote]),
    Share = Size div length(Nodes),
    lists:foldl(
        fun(Node, S) ->
            To = [{Pid, Messages} || {N, Pid, Messages} <- Remote, N =:= Node],
            try remote_sender(Node, S) of
                {Sender, NewS} ->
                    Sender ! {send, To, Share},
                    NewS
            catch
                %% The node has as many processes as it may have. What waits for the other node
                %% delays the rest then.
                error:system_limit ->
                    send_all(To),
                    sent(Share, S)
            end
        end,
        sent(Size - Share * length(Nodes), State),
        Nodes
    ).

send_all(Messages) ->
    _ = [To ! Message || {To, Run} <- Messages, Message <- Run],
    ok.

remote_sender(Node, State = #state{remote_senders = Senders}) ->
    case Senders of
        #{Node := Pid} ->
            {Pid, State};
        #{} ->
            Delivery = self(),
            Pid = proc_lib:spawn_link(?MODULE, enter, [Delivery]),
            {Pid, State#state{remote_senders = Senders#{Node => Pid}}}
    end.

sent(Bytes, State = #state{credit = Credit}) ->
    State#state{credit = py_credit:taken(Bytes, Credit)}.
