%% @doc The frames between the node and a worker, as written down in
%% docs/protocol.md. Nothing here sends or receives.
%%
%% A frame is `<<Kind, Size, Address:Size/binary, Payload/binary>>', behind
%% the four bytes of length that `{packet, 4}' adds. The address holds the numbers
%% of a pid or a reference and Python hands it back unread, so the worker process needs no
%% table to route an answer. It does not hold the node's name, which changes when
%% distribution is started or stopped.
%% @hidden
-module(py_frame).

-export([
    address/1,
    addressee/1,
    ack/2,
    call/3,
    callback_result/2,
    channel_end/2,
    channel_values/5,
    cancel/1,
    credit/4,
    data_prefix/1,
    event_prefix/1,
    exec/3,
    items/1,
    parse/1,
    ping/0,
    stacks/1,
    output_ack/2,
    release/1,
    settings/1,
    stop/0,
    stream/5,
    target/4,
    values/2,
    level/1,
    localized/1,
    node_of_references/0,
    remember_name/0,
    is_own_name/1
]).
-export_type([address/0, counted/0, frame/0, target/0]).

-type address() :: <<_:8, _:_*8>>.
%% A length byte, and the numbers of a pid or a reference of this node.
-type target() :: {function | expression | method, A :: binary(), B :: binary(), Args :: iodata(), Kwargs :: iodata()}.
%% What Python is to run, with its arguments, encoded: this is what other nodes are sent.
-type counted() :: send | callback | output | log.
%% What Python sends by itself, of which the node says how much it has taken.
-type frame() ::
    {
        ready | event | last | reply | reply_after_sends | send | callback | output | log | failed
            | leaving | pulse | changed | hello | stacks | not_running,
        term(),
        binary()
    }
    | {pong, Requests :: non_neg_integer(), Streams :: non_neg_integer()}.

%% Arguments of fewer bytes are encoded in one piece. A larger number copies larger
%% binaries, a smaller one makes calls with small arguments slower.
-define(LARGE_TERM, 4096).

%% From Erlang to Python.
-define(SETTINGS, 1).
-define(STREAM, 2).
-define(CALL, 3).
-define(EXEC, 4).
-define(CANCEL, 5).
-define(CREDIT, 6).
-define(CALLBACK_RESULT, 7).
-define(PING, 8).
-define(LEVEL, 9).
-define(ACK, 11).
-define(STOP, 12).
-define(CHANNEL_VALUES, 13).
-define(CHANNEL_END, 14).
-define(RELEASE, 15).
-define(STACKS, 16).
%% From Python to Erlang.
-define(READY, 65).
-define(EVENT, 66).
-define(LAST, 67).
-define(REPLY, 68).
-define(SEND, 69).
-define(CALLBACK, 70).
-define(OUTPUT, 71).
-define(LOG, 72).
-define(PONG, 73).
-define(FAILED, 74).
-define(REPLY_AFTER_SENDS, 75).
-define(LEAVING, 76).
-define(PULSE, 77).
-define(CHANGED, 78).
-define(HELLO, 79).
-define(STACKS_RESULT, 80).
-define(NOT_RUNNING, 81).

%% Flags of a target, each with something that follows its names.
-define(METADATA, 16).
-define(OUTPUT_TO, 32).
-define(PROFILE, 64).

%% What follows in a frame with one value.
-define(DATA, <<$h, 2, $w, 4, "data">>).

%% Numbers that stand for "no limit" in 64 bits, signed.
-define(UNLIMITED, -1).

%% @doc The address under which answers reach a process or an alias.
-spec address(pid() | reference()) -> address().
address(PidOrAlias) ->
    {Tag, Name, Creation, Numbers} = identifier(external(PidOrAlias)),
    _ = remember(Name, Creation),
    <<(byte_size(Numbers) + 1), Tag, Numbers/binary>>.

%% @doc Who has an address, as Python hands it back.
-spec addressee(binary()) -> pid() | reference() | error.
addressee(<<Tag, Numbers/binary>>) ->
    try
        local(Tag, Numbers)
    catch
        error:badarg -> error
    end;
addressee(<<>>) ->
    error.

%% The same bytes from every OTP release: from 26 on this is the default.
external(Term) ->
    term_to_binary(Term, [{minor_version, 2}]).

%% The parts of a pid or a reference: its tag, its node and what distinguishes it from others of that node.
identifier(<<131, $X, Atom, Rest/binary>>) ->
    {Name, <<Numbers:8/binary, Creation:32>>} = node_name(Atom, Rest),
    {$X, Name, Creation, Numbers};
identifier(<<131, $Z, _Size:16, Atom, Rest/binary>>) ->
    {Name, <<Creation:32, Numbers/binary>>} = node_name(Atom, Rest),
    {$Z, Name, Creation, Numbers}.

node_name($w, <<Size, Name:Size/binary, Rest/binary>>) -> {Name, Rest};
node_name($v, <<Size:16, Name:Size/binary, Rest/binary>>) -> {Name, Rest}.

%% The pid or reference of this node, whatever it is called by now. Raises badarg if the numbers are no
%% such thing. These two know no name, which may change at any moment: decoded with the name that was
%% read just before, it would be a pid of no node, and what is sent to it lost.
local($X, <<Id:32, Serial:32>>) ->
    list_to_pid("<0" ++ dotted(Id, dotted(Serial, ">")));
local($Z, Numbers) ->
    list_to_ref("#Ref<0" ++ reversed(Numbers, ">"));
local(_, _) ->
    error(badarg).

reversed(<<Number:32, Rest/binary>>, Tail) -> reversed(Rest, dotted(Number, Tail));
reversed(<<>>, Tail) -> Tail;
reversed(_, _) -> error(badarg).

dotted(Number, Tail) ->
    [$. | integer_to_list(Number) ++ Tail].

%% The names that this node has had: Python may have kept a pid since. Each has an entry of its own, which
%% whoever sees it first may put without reading others. Distribution is seldom started, so that persistent
%% terms are right.
remember(Name, Creation) ->
    Key = {?MODULE, Name, Creation},
    is_known(Key) orelse
        begin
            persistent_term:put({?MODULE, binary_to_atom(Name)}, true),
            persistent_term:put(Key, true)
        end.

is_known(Key) ->
    persistent_term:get(Key, false).

%% @doc Remembers the node's name, by which it may just have sent a pid to Python.
-spec remember_name() -> ok.
remember_name() ->
    _ = address(self()),
    ok.

%% @doc Of this node, if it is one that Python has kept since before distribution was started
%% or stopped, when this node had another name; or the same one, which is of another creation then.
-spec localized(pid() | reference()) -> pid() | reference().
localized(Id) ->
    {Tag, Name, Creation, Numbers} = identifier(external(Id)),
    case is_known({?MODULE, Name, Creation}) of
        true -> local(Tag, Numbers);
        false -> Id
    end.

%% @doc Whether it is a name that this node has had.
-spec is_own_name(node()) -> boolean().
is_own_name(Node) ->
    Node =:= node() orelse is_known({?MODULE, Node}).

%% @doc The first frame that a worker gets.
-spec settings(#{binary() => term()}) -> iodata().
settings(Settings) ->
    [<<?SETTINGS, 0>>, term_to_binary(Settings)].

%% @doc Tells a worker that the end of its input, which follows, is an orderly stop.
-spec stop() -> iodata().
stop() ->
    <<?STOP, 0>>.

%% @doc What to run: a function with its arguments, or an expression with its
%% local variables (as `Kwargs').
-spec target(function | expression | method, {binary(), binary()}, term(), map()) -> target().
target(Kind, {A, B}, Args, Kwargs) ->
    {Kind, A, B, encoded(Args), encoded(Kwargs)}.

%% Small terms are encoded faster in one piece; the binaries in large ones are not copied.
encoded(Term) when Term =:= #{} -> <<131, $t, 0:32>>;
encoded(Term) ->
    case erlang:external_size(Term) < ?LARGE_TERM of
        true -> term_to_binary(Term);
        false -> term_to_iovec(Term)
    end.

target({Kind, A, B, Args, Kwargs}, Flags) ->
    Bits = flags(Flags),
    [
        <<(target_kind(Kind)), Bits, (byte_size(A)):32, (byte_size(B)):32, A/binary, B/binary,
            (extras(Bits, Flags))/binary>>,
        Args
        | Kwargs
    ].

target_kind(function) -> 0;
target_kind(expression) -> 1;
target_kind(method) -> 2.

flags(Flags = #{binaries := Binaries, atoms := Atoms, traceback := Traceback}) ->
    flag(Binaries =:= bytes, 1) bor flag(Traceback, 2) bor flag(Atoms =:= str, 4) bor
        flag(maps:get(return, Flags, value) =:= handle, 8) bor flag(is_map_key(metadata, Flags), ?METADATA) bor
        flag(maps:get(output, Flags, user) =:= caller, ?OUTPUT_TO) bor flag(is_map_key(profile, Flags), ?PROFILE).

%% What few requests have.
extras(Bits, _Flags) when Bits < ?METADATA ->
    <<>>;
extras(_Bits, Flags) ->
    <<(metadata(Flags))/binary, (output(Flags))/binary, (profile(Flags))/binary>>.

metadata(#{metadata := Metadata}) ->
    Term = term_to_binary(Metadata),
    <<(byte_size(Term)):32, Term/binary>>;
metadata(_) ->
    <<>>.

%% The process that makes a request, one that does it in its stead, and a relay on another node
%% have the same group leader. A node whose name leaves no room has what is printed on `user'.
output(#{output := caller}) ->
    <<131, Device/binary>> = external(group_leader()),
    case byte_size(Device) of
        Size when Size < 256 -> <<Size, Device/binary>>;
        _ -> <<0>>
    end;
output(_) ->
    <<>>.

profile(#{profile := Path}) ->
    Name = py_text:utf8(profile, Path),
    <<(byte_size(Name)):16, Name/binary>>;
profile(_) ->
    <<>>.

flag(true, Bit) -> Bit;
flag(false, _Bit) -> 0.

%% @doc Starts a stream. `Opts' are checked options with every default filled in.
-spec stream(address(), reference(), pid(), map(), target()) -> iodata().
stream(Address, Ref, Owner, Opts, Target) ->
    #{window := Window, window_bytes := Bytes, format := Format} = Opts,
    Size = py_window:initial(Window),
    Prefix = prefix(Ref),
    OwnerTerm = external(Owner),
    [
        <<?STREAM, Address/binary, Size:64, Bytes:64, (number(batch, Opts)):64,
            (number(take, Opts)):64, (number(demand, Opts)):64, (format(Format)),
            (byte_size(Prefix)), (byte_size(OwnerTerm)):16, Prefix/binary, OwnerTerm/binary>>
        | target(Target, Opts)
    ].

%% Python puts this before every event, so that a frame's payload is the very
%% message that the owner gets.
prefix(Ref) ->
    <<131, Ext/binary>> = external(Ref),
    <<131, $h, 3, $w, 9, "py_stream", Ext/binary>>.

%% @doc What the payload of a frame with one value begins with.
-spec data_prefix(reference()) -> binary().
data_prefix(Ref) ->
    <<(prefix(Ref))/binary, ?DATA/binary>>.

%% @doc What the payload of every event begins with.
-spec event_prefix(DataPrefix :: binary()) -> binary().
event_prefix(DataPrefix) ->
    binary:part(DataPrefix, 0, byte_size(DataPrefix) - byte_size(?DATA)).

%% @doc How many values there are in the payload of an event, without decoding it.
-spec values(binary(), EventPrefix :: binary()) -> non_neg_integer().
values(Payload, EventPrefix) ->
    Size = byte_size(EventPrefix),
    case Payload of
        <<_:Size/binary, $h, 2, $w, 5, "batch", $l, N:32, _/binary>> -> N;
        <<_:Size/binary, $h, 2, $w, 5, "batch", $k, N:16, _/binary>> -> N;
        <<_:Size/binary, $h, 2, $w, 4, "data", _/binary>> -> 1;
        _ -> 0
    end.

number(Key, Opts) ->
    maps:get(Key, Opts, ?UNLIMITED).

format(term) -> 0;
format(msgpack) -> 1;
format(json) -> 2.

%% @doc Runs a target and sends its result to `Address'.
-spec call(address(), py_options:flags(), target()) -> iodata().
call(Address, Flags, Target) ->
    [<<?CALL, Address/binary>> | target(Target, Flags)].

%% @doc Runs code in `__main__'.
-spec exec(address(), py_options:flags(), binary()) -> iodata().
exec(Address, Flags, Code) ->
    Bits = flags(Flags),
    [<<?EXEC, Address/binary, Bits, (extras(Bits, Flags))/binary>>, Code].

%% @doc Ends the stream or call that was started with `Address'.
-spec cancel(address()) -> iodata().
cancel(Address) ->
    <<?CANCEL, Address/binary>>.

%% @doc Says how much of a stream has been taken so far, values and bytes, and
%% how many values may be yielded in all. Totals, so that a repeated or late
%% frame does no harm.
-spec credit(address(), non_neg_integer(), non_neg_integer(), integer()) -> iodata().
credit(Address, Values, Bytes, Demand) ->
    <<?CREDIT, Address/binary, Values:64, Bytes:64, Demand:64>>.

%% @doc The result of a callback that Python code made with `erlang.call'.
-spec callback_result(Id :: binary(), iodata()) -> iodata().
callback_result(Id, Payload) ->
    [<<?CALLBACK_RESULT, (byte_size(Id)), Id/binary>> | Payload].

%% @doc Values of a channel, for whoever reads it under this address. After `Quarter' of them
%% the channel wants to know that they were taken.
-spec channel_values(binary(), py_options:flags(), pos_integer(), pos_integer(), [term()]) -> iodata().
channel_values(Address, Flags, Count, Quarter, Values) ->
    [
        <<?CHANNEL_VALUES, (byte_size(Address)), Address/binary, (flags(Flags)), Count:32, Quarter:32>>
        | term_to_iovec(Values)
    ].

%% @doc The end of a channel: it was closed, or the process that fed it has failed.
-spec channel_end(binary(), closed | {exit, term()}) -> iodata().
channel_end(Address, Reason) ->
    [<<?CHANNEL_END, (byte_size(Address)), Address/binary>>, external(why(Reason))].

%% Python reads it where nothing may fail, so it is text.
why(closed) ->
    closed;
why({exit, Reason}) ->
    Text = unicode:characters_to_binary(io_lib:format("~0tP", [Reason, 30])),
    {Text, [], <<"the channel has ended before it was closed: ", Text/binary>>}.

%% @doc Says how many bytes in all have been taken of what Python sends by itself.
-spec ack(counted(), non_neg_integer()) -> iodata().
ack(Kind, Bytes) ->
    <<?ACK, 1, (kind(Kind)), Bytes:64>>.

%% @doc Says how many bytes more have been taken of what Python prints for a group leader. It has
%% the address that Python has used.
-spec output_ack(binary(), non_neg_integer()) -> iodata().
output_ack(Address, Bytes) ->
    <<?ACK, (byte_size(Address)), Address/binary, Bytes:64>>.

kind(send) -> ?SEND;
kind(callback) -> ?CALLBACK;
kind(output) -> ?OUTPUT;
kind(log) -> ?LOG.

%% @doc Lets go of the object of a handle.
-spec release(binary()) -> iodata().
release(Id) ->
    [<<?RELEASE, 0>>, Id].

%% @doc What references of this node have between their length and their numbers. A worker may keep
%% the name from then on.
-spec node_of_references() -> binary().
node_of_references() ->
    External = <<131, $Z, Count:16, Rest/binary>> = external(make_ref()),
    {_, Name, Creation, _} = identifier(External),
    _ = remember(Name, Creation),
    binary_part(Rest, 0, byte_size(Rest) - 4 * Count).

%% @doc Asks for a sign of life.
-spec ping() -> iodata().
ping() ->
    <<?PING, 0>>.

%% @doc Asks what its threads and tasks are doing; the answer goes to `Address'.
-spec stacks(address()) -> iodata().
stacks(Address) ->
    <<?STACKS, Address/binary>>.

%% @doc Sets the level below which Python's log records are not sent.
-spec level(non_neg_integer()) -> iodata().
level(Level) ->
    <<?LEVEL, 0, Level>>.

%% @doc The terms of a payload that carries a list of them. Anything else
%% is the worker's fault: the process that reads it ends with the reason, and the
%% worker is replaced.
-spec items(binary()) -> [term()].
items(Payload) ->
    case py_etf:decode(Payload) of
        {ok, Items} when is_list(Items) -> Items;
        {ok, _} -> exit(bad_frame);
        {error, Reason} -> exit(Reason)
    end.

%% @doc Takes a frame from Python apart. Throws nothing: what breaks the
%% protocol is `error', and the worker that sent it is replaced.
-spec parse(binary()) -> frame() | error.
parse(<<?EVENT, N, Address:N/binary, Payload/binary>>) -> routed(event, Address, Payload);
parse(<<?LAST, N, Address:N/binary, Payload/binary>>) -> routed(last, Address, Payload);
parse(<<?REPLY, N, Address:N/binary, Payload/binary>>) -> routed(reply, Address, Payload);
parse(<<?REPLY_AFTER_SENDS, N, Address:N/binary, Payload/binary>>) ->
    routed(reply_after_sends, Address, Payload);
parse(<<?SEND, 0, Payload/binary>>) -> {send, none, Payload};
parse(<<?CALLBACK, N, Id:N/binary, Payload/binary>>) -> {callback, Id, Payload};
parse(<<?OUTPUT, 0, Payload/binary>>) -> {output, none, Payload};
parse(<<?OUTPUT, N, Device:N/binary, Payload/binary>>) -> printed(Device, Payload);
parse(<<?LOG, 0, Payload/binary>>) -> {log, none, Payload};
parse(<<?PONG, 0, Requests:32, Streams:32>>) -> {pong, Requests, Streams};
parse(<<?READY, 0, Payload/binary>>) -> {ready, none, Payload};
parse(<<?FAILED, 0, Payload/binary>>) -> {failed, none, Payload};
parse(<<?LEAVING, 0>>) -> {leaving, none, <<>>};
parse(<<?PULSE, 0, Payload/binary>>) -> {pulse, none, Payload};
parse(<<?CHANGED, 0, Payload/binary>>) -> {changed, none, Payload};
parse(<<?HELLO, 0, OsPid:4/binary>>) -> {hello, none, OsPid};
parse(<<?STACKS_RESULT, N, Address:N/binary, Payload/binary>>) -> routed(stacks, Address, Payload);
parse(<<?NOT_RUNNING, N, Address:N/binary>>) -> routed(not_running, Address, <<>>);
parse(_) -> error.

%% Python has asked for the answer by the same bytes.
printed(Device, Payload) ->
    try
        Pid = binary_to_term(<<131, Device/binary>>, [safe]),
        true = is_pid(Pid),
        {output, {localized(Pid), Device}, Payload}
    catch
        error:{badmatch, false} -> error;
        error:badarg -> error
    end.

routed(Kind, <<Tag, Numbers/binary>>, Payload) ->
    try local(Tag, Numbers) of
        To when is_pid(To), Kind =:= event; is_pid(To), Kind =:= last -> {Kind, To, Payload};
        To when Kind =:= not_running -> {Kind, To, Payload};
        To when is_reference(To), Kind =/= event, Kind =/= last -> {Kind, To, Payload};
        _ -> error
    catch
        error:badarg -> error
    end;
routed(_Kind, <<>>, _Payload) ->
    error.
