%% @doc Channels: values that Erlang processes feed into a Python iterator.
%%
%% A channel is a process between those that send and the worker that reads:
%%
%% ```
%% channel_send -> channel's process -> | port | -> erlang.Channel -> whoever iterates
%%                        ^---- taken, closed ----- as messages of erlang.send
%% '''
%%
%% What the window has available stands in two counters that every sender has: a value that fits is
%% sent as a message and nobody waits. One that does not fit is offered to the channel's process, and
%% the sender waits for the answer; so does one that has no counters, on another node.
%% @hidden
-module(py_channel).
-behaviour(gen_server).

-include("py_worker.hrl").

-export([start/1, send/3, close/1, attach/3]).
-export([abandoned/3, enter/1]).
-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2, format_status/1]).
-export_type([channel/0]).

%% The second is the reference of the counters, and on another node, and from Python, what stands for it.
-type channel() :: {py_channel, {pid(), Available :: term()}}.
%% Python makes of it what it reads from, see etf/incoming.py.

%% How many values, and bytes of values, are available in the window.
-define(VALUES, 1).
-define(BYTES, 2).
%% As many values when the channel is closed.
-define(CLOSED, -(1 bsl 60)).

-record(reader, {
    worker :: #worker{},
    address :: binary(),
    monitor :: reference(),
    %% See guard/2. Frames for a worker of another node go through it.
    guard :: pid(),
    %% Whether frames go through it because the port once had no room: this process does not wait.
    is_guarded = false :: boolean(),
    connection :: py_connection:connection(),
    guard_monitor :: reference()
}).

-record(guard, {
    worker :: #worker{},
    address :: binary(),
    monitor :: reference(),
    worker_monitor :: reference()
}).

-record(channel, {
    owner :: pid(),
    owner_monitor = none :: none | reference(),
    available :: atomics:atomics_ref(),
    window :: pos_integer(),
    window_bytes :: pos_integer(),
    flags :: py_options:flags(),
    notify :: boolean(),
    reader = none :: none | #reader{},
    %% Frames that were not taken yet: how many values there are up to their ends, and what is in them.
    in_flight = queue:new() :: queue:queue({Sum :: integer(), Values :: integer(), Bytes :: integer()}),
    values = 0 :: non_neg_integer(),
    %% Values for the next frame, the last one first: see emit_if_due/1.
    next = {0, 0, []} :: {Values :: non_neg_integer(), Bytes :: non_neg_integer(), [term()]},
    %% Frames that no reader is there for yet, the last one first.
    held = [] :: [{[term()], pos_integer()}],
    %% Senders that wait until their value fits.
    waiting = queue:new() :: queue:queue({reference(), term(), non_neg_integer()}),
    %% Readers that want no more before they are known: two messages by different ways.
    early = [] :: [Address :: binary()],
    is_closed = false :: boolean()
}).

%% @doc A new channel. `Opts' are checked options, with all defaults.
-spec start(map()) -> channel().
start(Opts = #{owner := Owner, window := Window, window_bytes := Bytes, notify := Notify}) ->
    Available = atomics:new(2, [{signed, true}]),
    atomics:put(Available, ?VALUES, Window),
    atomics:put(Available, ?BYTES, Bytes),
    Channel = #channel{
        owner = Owner,
        available = Available,
        window = Window,
        window_bytes = Bytes,
        flags = (maps:with([binaries, atoms], Opts))#{traceback => false},
        notify = Notify
    },
    Pid = proc_lib:spawn(?MODULE, enter, [Channel]),
    {py_channel, {Pid, Available}}.

%% @doc Sends a value, and waits while it does not fit the window.
-spec send(channel(), term(), timeout()) -> ok | {error, closed | timeout}.
send({py_channel, {Pid, Available}}, Value, Timeout) ->
    Bytes = bytes(Value),
    case reserve(Available, Bytes) of
        true ->
            Pid ! {py_in, Value, Bytes},
            ok;
        false ->
            ask(Pid, Value, Bytes, Timeout)
    end.

%% Counts first and takes it back if it does not fit, so that two senders never share the last
%% of the window. Whoever has counted and taken it back asks next, and then all that wait are checked once more.
reserve(Available, Bytes) ->
    try
        case atomics:sub_get(Available, ?VALUES, 1) of
            Values when Values >= 0 ->
                atomics:sub_get(Available, ?BYTES, Bytes) >= 0 orelse
                    begin
                        atomics:add(Available, ?BYTES, Bytes),
                        atomics:add(Available, ?VALUES, 1),
                        false
                    end;
            _ ->
                atomics:add(Available, ?VALUES, 1),
                false
        end
    catch
        %% A reference is what another node, and Python, has of the counters.
        error:badarg -> false
    end.

%% What a value takes in the external format, about.
bytes(Value) when is_integer(Value), Value < 16#80000000, Value >= -16#80000000 -> 5;
bytes(Value) when is_binary(Value) -> byte_size(Value) + 5;
bytes(Value) when is_float(Value) -> 9;
bytes(Value) -> erlang:external_size(Value).

ask(Pid, Value, Bytes, Timeout) ->
    Ref = erlang:monitor(process, Pid, [{alias, reply_demonitor}]),
    Pid ! {py_in_wait, Ref, Value, Bytes},
    receive
        {Ref, Answer} -> Answer;
        {'DOWN', Ref, process, _, _} -> {error, closed}
    after Timeout ->
        %% It may have been accepted meanwhile: the answer says so.
        Pid ! {py_in_give_up, Ref},
        receive
            {Ref, Answer} -> Answer;
            {'DOWN', Ref, process, _, _} -> {error, closed}
        end
    end.

%% @doc No more values will be sent; those that were are read. From any process, any number of
%% times.
-spec close(channel()) -> ok.
close({py_channel, {Pid, Available}}) ->
    shut(Available),
    Pid ! py_in_close,
    ok.

%% From now on every sender asks.
shut(Available) ->
    try
        atomics:put(Available, ?VALUES, ?CLOSED)
    catch
        error:badarg -> ok
    end.

%%% The worker's side.

%% @doc Python code of a worker wants to read. What concerns it is written to it under this
%% address.
-spec attach(#worker{}, pid(), binary()) -> ok.
attach(Worker, Pid, Address) ->
    _ = proc_lib:spawn(?MODULE, enter, [{Worker, py_frame:localized(Pid), Address}]),
    ok.

%% @private
-spec enter(#channel{} | {#worker{}, pid(), binary()}) -> no_return().
enter(C = #channel{owner = Owner}) ->
    py_log:label(channel, Owner),
    gen_server:enter_loop(?MODULE, [], C#channel{owner_monitor = erlang:monitor(process, Owner)});
enter({Worker = #worker{pid = WorkerPid}, Pid, Address}) ->
    Guard = #guard{
        worker = Worker,
        address = Address,
        monitor = erlang:monitor(process, Pid),
        worker_monitor = erlang:monitor(process, WorkerPid)
    },
    Pid ! {py_in_attach, self(), Worker, Address},
    gen_server:enter_loop(?MODULE, [], Guard).

%%% gen_server callbacks, of a channel's process and of the guard. Servers, because such a process
%%% survives that the code is loaded twice.

-type state() :: #channel{} | #guard{}.

-include("py_entered.hrl").

-spec handle_info(term(), state()) -> {noreply, state()} | {stop, normal, state()}.
handle_info(Message, C = #channel{}) ->
    try
        {noreply, message(Message, C)}
    catch
        throw:over -> {stop, normal, C}
    end;
handle_info(Message, Guard = #guard{}) ->
    guard(Message, Guard).

%% Reports the end of a channel to its reader when the channel's process cannot: it was killed, or its node is
%% gone. It runs on the worker's node, and hands on the frames of a channel of another one.
guard({write, Frame}, Guard = #guard{worker = Worker}) ->
    _ = py_port:write(Worker, Frame),
    {noreply, Guard};
guard({refused, Reason}, Guard) ->
    write_end(Guard#guard.worker, Guard#guard.address, Reason),
    {stop, normal, Guard};
guard({'DOWN', Monitor, process, _, Reason}, Guard = #guard{monitor = Monitor}) ->
    write_end(Guard#guard.worker, Guard#guard.address, {exit, Reason}),
    {stop, normal, Guard};
guard({'DOWN', Monitor, process, _, _}, Guard = #guard{worker_monitor = Monitor}) ->
    {stop, normal, Guard};
guard(ended, Guard) ->
    {stop, normal, Guard};
guard(_Other, Guard) ->
    {noreply, Guard}.

%% @private
%% @doc Reports it to a reader whose guard was killed; on the worker's node.
-spec abandoned(#worker{}, binary(), term()) -> ok.
abandoned(Worker, Address, Reason) ->
    write_end(Worker, Address, {exit, Reason}).

write_end(Worker, Address, Reason) ->
    _ = py_port:write(Worker, py_frame:channel_end(Address, Reason)),
    ok.

%%% The channel's process.

message({py_in, Value, Bytes}, C) ->
    emit_if_due(collect(add(Value, Bytes, C)));
message({py_channel, taken, {Address, Values}}, C = #channel{reader = #reader{address = Address}}) when is_integer(Values) ->
    emit_if_due(admit(taken(Values, C)));
message({py_in_wait, Ref, Value, Bytes}, C) ->
    emit_if_due(admit(wait(Ref, Value, Bytes, C)));
message({py_in_give_up, Ref}, C) ->
    give_up(Ref, C);
message(py_in_close, C) ->
    close_when_read(C);
message({py_channel, closed, Address}, C = #channel{reader = none, early = Early}) ->
    C#channel{early = [Address | Early]};
message({py_channel, closed, Address}, C = #channel{reader = #reader{address = Address}}) ->
    no_reader(C);
message({py_in_attach, Guard, Worker, Address}, C = #channel{reader = none}) ->
    attached(Guard, Worker, Address, C);
message({py_in_attach, Guard, _Worker, _Address}, C) ->
    Guard ! {refused, {exit, already_read_elsewhere}},
    C;
message({'DOWN', Monitor, process, _, normal}, C = #channel{owner_monitor = Monitor}) ->
    owner_ended(closed, C);
message({'DOWN', Monitor, process, _, Reason}, C = #channel{owner_monitor = Monitor}) ->
    owner_ended({exit, Reason}, C);
message({'DOWN', Monitor, process, _, _}, C = #channel{reader = #reader{monitor = Monitor}}) ->
    no_reader(C);
message({'DOWN', Monitor, process, Guard, Reason}, C = #channel{reader = #reader{guard_monitor = Monitor} = Reader}) ->
    ok = erpc:cast(node(Guard), ?MODULE, abandoned, [Reader#reader.worker, Reader#reader.address, Reason]),
    no_reader(C);
message(_Other, C) ->
    C.

%% Values that came together leave together, up to a quarter of the window: credit is for whole
%% frames.
collect(C = #channel{next = {Count, Bytes, Values}}) ->
    collect(Count, Bytes, Values, C).

collect(Count, Bytes, Values, C = #channel{window = Window, window_bytes = WindowBytes}) when
    Count * 4 < Window, Bytes * 4 < WindowBytes
->
    receive
        {py_in, Value, More} -> collect(Count + 1, Bytes + More, [Value | Values], C)
    after 0 ->
        C#channel{next = {Count, Bytes, Values}}
    end;
collect(Count, Bytes, Values, C) ->
    emit(C#channel{next = {Count, Bytes, Values}}).

add(Value, More, C = #channel{next = {Count, Bytes, Values}}) ->
    C#channel{next = {Count + 1, Bytes + More, [Value | Values]}}.

%% A frame that could hold more waits while the reader has two to go on with: the reader says what it
%% has taken before it opens the last one. So values that are sent fast travel in large frames, and one that
%% comes alone leaves at once.
emit_if_due(C = #channel{next = {0, 0, []}}) ->
    C;
emit_if_due(C = #channel{in_flight = InFlight}) ->
    case queue:len(InFlight) < 2 of
        true -> emit(C);
        false -> C
    end.

emit(C = #channel{next = {Count, Bytes, Reversed}, values = Before, in_flight = InFlight, held = Held}) ->
    Sum = Before + Count,
    Values = lists:reverse(Reversed),
    Counted = C#channel{next = {0, 0, []}, values = Sum, in_flight = queue:in({Sum, Count, Bytes}, InFlight)},
    case C#channel.reader of
        none -> Counted#channel{held = [{Values, Count} | Held]};
        _ -> write_values(Values, Count, Counted)
    end.

write_values(Values, Count, C = #channel{window = Window, flags = Flags, reader = Reader}) ->
    Address = Reader#reader.address,
    write(py_frame:channel_values(Address, Flags, Count, max(1, Window div 4), Values), C).

write(Frame, C = #channel{reader = #reader{guard = Guard, is_guarded = true}}) ->
    Guard ! {write, Frame},
    C;
write(Frame, C = #channel{reader = Reader = #reader{guard = Guard, worker = Worker}}) when node(Guard) =:= node() ->
    case py_port:write(Worker, Frame, 0) of
        timeout -> write(Frame, C#channel{reader = Reader#reader{is_guarded = true}});
        _ -> C
    end;
write(Frame, C = #channel{reader = #reader{guard = Guard, connection = Connection}}) ->
    case py_connection:send(Connection, Guard, {write, iolist_to_binary(Frame)}) of
        ok -> C;
        lost -> no_reader(C)
    end.

%%% What is available.

taken(Taken, C = #channel{in_flight = InFlight, available = Available}) ->
    case queue:peek(InFlight) of
        {value, {Sum, Count, Bytes}} when Sum =< Taken ->
            atomics:add(Available, ?BYTES, Bytes),
            atomics:add(Available, ?VALUES, Count),
            taken(Taken, C#channel{in_flight = queue:drop(InFlight)});
        _ ->
            C
    end.

wait(Ref, _Value, _Bytes, C = #channel{is_closed = true}) ->
    Ref ! {Ref, {error, closed}},
    C;
wait(Ref, Value, Bytes, C = #channel{waiting = Waiting}) ->
    C#channel{waiting = queue:in({Ref, Value, Bytes}, Waiting)}.

give_up(Ref, C = #channel{waiting = Waiting}) ->
    Rest = queue:filter(fun({Waits, _, _}) -> Waits =/= Ref end, Waiting),
    %% Otherwise it has its answer.
    _ = queue:len(Rest) < queue:len(Waiting) andalso (Ref ! {Ref, {error, timeout}}),
    C#channel{waiting = Rest}.

%% Lets those in that wait, in order, for as long as they fit.
admit(C = #channel{waiting = Waiting}) ->
    case queue:peek(Waiting) of
        {value, {Ref, Value, Bytes}} ->
            case may_pass(Bytes, C) of
                true ->
                    Ref ! {Ref, ok},
                    admit(collect(add(Value, Bytes, C#channel{waiting = queue:drop(Waiting)})));
                false ->
                    C
            end;
        empty ->
            C
    end.

%% One value may always pass where nothing is under way, however large.
may_pass(Bytes, #channel{available = Available, window = Window}) ->
    case atomics:get(Available, ?VALUES) of
        Window ->
            atomics:sub(Available, ?VALUES, 1),
            atomics:sub(Available, ?BYTES, Bytes),
            true;
        _ ->
            reserve(Available, Bytes)
    end.

%%% The reader, and the end.

attached(Guard, Worker = #worker{pid = Pid}, Address, C = #channel{held = Held}) ->
    Reader = #reader{
        worker = Worker,
        address = Address,
        monitor = erlang:monitor(process, Pid),
        guard = Guard,
        connection = py_connection:to(node(Guard)),
        guard_monitor = erlang:monitor(process, Guard)
    },
    Attached = C#channel{reader = Reader, held = []},
    _ = lists:member(Address, C#channel.early) andalso no_reader(Attached),
    Written = lists:foldr(fun({Values, Count}, Acc) -> write_values(Values, Count, Acc) end, Attached, Held),
    case C#channel.is_closed of
        true -> finish(closed, Written);
        false -> Written
    end.

%% Here and below the senders are shut out first, so that no value is accepted once anybody has heard of the
%% end. Whoever closes it from another node cannot.
close_when_read(C = #channel{reader = none}) ->
    shut(C#channel.available),
    refuse(drain(C#channel{is_closed = true}));
close_when_read(C) ->
    finish(closed, C).

-spec owner_ended(closed | {exit, term()}, #channel{}) -> no_return().
owner_ended(_Reason, C = #channel{reader = none}) ->
    shut(C#channel.available),
    over(C);
owner_ended(Reason, C) ->
    finish(Reason, C).

%% Nobody reads any more: the worker has ended, or its code wants no more.
-spec no_reader(#channel{}) -> no_return().
no_reader(C = #channel{owner = Owner, notify = Notify, reader = #reader{guard = Guard}}) ->
    shut(C#channel.available),
    Guard ! ended,
    _ = Notify andalso not C#channel.is_closed andalso (Owner ! {py_channel, {py_channel, {self(), C#channel.available}}, closed}),
    over(C).

-spec finish(closed | {exit, term()}, #channel{}) -> no_return().
finish(Reason, C) ->
    shut(C#channel.available),
    Drained = #channel{reader = #reader{guard = Guard, address = Address}} = drain(C),
    _ = write(py_frame:channel_end(Address, Reason), Drained),
    Guard ! ended,
    over(Drained).

%% What was accepted before the end is sent before it.
drain(C) ->
    case collect(C) of
        All = #channel{next = {0, 0, []}} -> All;
        Some -> drain(emit(Some))
    end.

-spec over(#channel{}) -> no_return().
over(C) ->
    _ = refuse(C),
    throw(over).

refuse(C = #channel{waiting = Waiting}) ->
    _ = [Ref ! {Ref, {error, closed}} || {Ref, _, _} <- queue:to_list(Waiting)],
    C#channel{waiting = queue:new()}.
