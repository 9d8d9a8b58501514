%% @doc Where the values of a stream go: to its owner, one by one or as batches, or into a list that
%% the caller gets when all are there.
%% @hidden
-module(py_sink).

-export([new/3, deliver/2, decode/2, finish/2, addressee/2, addressee/1, is_collecting/1]).
-export_type([sink/0, how/0]).

%% A frame of this many bytes is checked for a value that is a bare binary. Smaller
%% ones cost less to copy than the larger frames that they would keep alive.
-define(LARGE_FRAME, 16384).

-type how() :: each | batches | {collect, Alias :: reference(), Runs :: [[term()]]}.

-record(sink, {
    ref :: reference(),
    %% What a frame with one value begins with.
    prefix :: binary(),
    owner :: pid(),
    is_local :: boolean(),
    %% Of an owner on another node, from the first value on.
    connection = none :: py_connection:connection(),
    how :: how()
}).
-opaque sink() :: #sink{}.

-spec new(reference(), Owner :: pid(), how()) -> sink().
new(Ref, Owner, How) ->
    #sink{ref = Ref, prefix = py_frame:data_prefix(Ref), owner = Owner, is_local = node(Owner) =:= node(), how = How}.

%% @doc Who gets the events, if anybody does.
-spec addressee(how(), Owner :: pid()) -> pid() | none.
addressee({collect, _, _}, _Owner) -> none;
addressee(_Each, Owner) -> Owner.

-spec addressee(sink()) -> pid() | none.
addressee(#sink{how = How, owner = Owner}) -> addressee(How, Owner).

-spec is_collecting(sink()) -> boolean().
is_collecting(#sink{how = How}) -> is_tuple(How).

%% @doc Delivers what a frame holds, and says how many values and how many messages that was; or that
%% the generator waits. `lost' if what was sent on a connection that was lost is missing: nothing comes
%% behind it.
-spec deliver(binary(), sink()) ->
    {Values :: pos_integer(), Messages :: pos_integer(), sink()} | waiting | lost | atom_limit | bad_frame.
%% One large binary is not decoded, which would copy it: the value is that part
%% of the frame.
deliver(Payload, S = #sink{how = each, ref = Ref, prefix = Prefix}) when byte_size(Payload) >= ?LARGE_FRAME ->
    Size = byte_size(Prefix),
    case Payload of
        <<Prefix:Size/binary, $m, Length:32, Value:Length/binary>> -> event({py_stream, Ref, {data, Value}}, S);
        _ -> decoded(decode(Payload, S), S)
    end;
deliver(Payload, S) ->
    decoded(decode(Payload, S), S).

decoded({ok, {py_stream, _, waiting}}, _S) -> waiting;
decoded({ok, Event}, S) -> event(Event, S);
decoded({error, Reason}, _S) -> Reason.

event(Event, S = #sink{is_local = false, connection = none, owner = Owner}) ->
    case py_connection:to(node(Owner)) of
        none -> lost;
        Connection -> event(Event, S#sink{connection = Connection})
    end;
event({py_stream, Ref, {batch, Run}}, S = #sink{how = each}) ->
    send_each(Run, Ref, S, 0);
event(Event = {py_stream, _, {data, _}}, S = #sink{how = each}) ->
    sent(send(Event, S), 1, S);
event(Event = {py_stream, _, {batch, Run}}, S = #sink{how = batches}) ->
    sent(send(Event, S), length(Run), S);
event({py_stream, _, {batch, Run}}, S = #sink{how = {collect, Alias, Runs}}) ->
    {length(Run), 1, S#sink{how = {collect, Alias, [Run | Runs]}}};
event({py_stream, Ref, {data, Value}}, S) ->
    event({py_stream, Ref, {batch, [Value]}}, S);
event(_Other, _S) ->
    bad_frame.

sent(ok, Values, S) -> {Values, 1, S};
sent(lost, _Values, _S) -> lost.

send_each([Value | Rest], Ref, S, N) ->
    case send({py_stream, Ref, {data, Value}}, S) of
        ok -> send_each(Rest, Ref, S, N + 1);
        lost -> lost
    end;
send_each([], _Ref, S, N) ->
    {N, N, S}.

send(Message, #sink{is_local = true, owner = Owner}) ->
    Owner ! Message,
    ok;
send(Message, #sink{owner = Owner, connection = Connection}) ->
    py_connection:send(Connection, Owner, Message).

%% @doc What a frame holds: an event of this stream.
-spec decode(binary(), sink()) -> {ok, {py_stream, reference(), term()}} | {error, atom_limit | bad_frame}.
decode(Payload, S = #sink{ref = Ref}) ->
    case py_etf:decode(Payload) of
        {ok, {py_stream, Ref, Event}} -> checked(Event, Ref);
        {ok, {py_stream, Other, Event}} when is_reference(Other) -> renamed(Event, Payload, S);
        {error, atom_limit} -> {error, atom_limit};
        _ -> {error, bad_frame}
    end.

checked(Event = {batch, [_ | _] = Run}, Ref) when length(Run) > 0 -> {ok, {py_stream, Ref, Event}};
checked({batch, _}, _Ref) -> {error, bad_frame};
checked(Event, Ref) -> {ok, {py_stream, Ref, Event}}.

%% The name of the node has changed since Python was sent the reference.
renamed(Event, Payload, #sink{ref = Ref, prefix = DataPrefix}) ->
    Prefix = py_frame:event_prefix(DataPrefix),
    Size = byte_size(Prefix),
    case Payload of
        <<Prefix:Size/binary, _/binary>> -> checked(Event, Ref);
        _ -> {error, bad_frame}
    end.

%% @doc Delivers the terminal event.
-spec finish({py_stream, reference(), done | {error, term()}}, sink()) -> ok.
finish({py_stream, _, done}, #sink{how = {collect, Alias, Runs}}) ->
    Alias ! {Alias, {ok, lists:append(lists:reverse(Runs))}},
    ok;
finish({py_stream, _, Error}, #sink{how = {collect, Alias, _}}) ->
    Alias ! {Alias, Error},
    ok;
finish(Message, #sink{is_local = true, owner = Owner}) ->
    Owner ! Message,
    ok;
finish(Message, S = #sink{owner = Owner, connection = Connection}) ->
    %% An end behind a gap would say that there is none.
    case (Connection =:= none orelse py_connection:to(node(Owner)) =:= Connection) andalso
        erlang:send(Owner, Message, [noconnect, nosuspend]) of
        nosuspend ->
            timer:sleep(1),
            finish(Message, S);
        _ ->
            ok
    end.
