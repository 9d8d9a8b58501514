%% @doc The table of the streams of this node: each one's process, for whoever wants to cancel it
%% or to ask for more, and its owner. A row goes when the owner has its terminal event: see
%% py_stream_guard, which sends that of a process that was killed.
%%
%% The table ends with the top supervisor, and its processes may go on for a moment: nothing here fails
%% without it.
%% @hidden
-module(py_streams).

-include("py_worker.hrl").

-export([tables/0, enter/1, forget/1, all/0, number/0, is_entered/1, process/1, owner/1]).
-export([cancel/1, cancel_flush/1, demand/2]).
-export_type([stream/0]).

-type stream() :: {
    Ref :: reference(), Pid :: pid(), Owner :: pid(), Addressee :: pid() | none, Worker :: #worker{} | {call, #worker{}} | none
}.
%% Who collects the values gets no event, and monitors the process. Without a worker the stream is of
%% another node, which monitors the process as well. A relay's call is in the table, too.

-define(TABLE, ?MODULE).

%% @doc Makes the table; its owner outlives every stream.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

-spec enter(stream()) -> boolean().
enter(Stream) ->
    try
        ets:insert(?TABLE, Stream)
    catch
        error:badarg -> false
    end.

%% @doc A stream has ended.
-spec forget(reference()) -> true.
forget(Ref) ->
    try
        ets:delete(?TABLE, Ref)
    catch
        error:badarg -> true
    end.

-spec all() -> [stream()].
all() ->
    ets:tab2list(?TABLE).

-spec number() -> non_neg_integer().
number() ->
    case ets:info(?TABLE, size) of
        undefined -> 0;
        Size -> Size
    end.

%% @doc Whether a stream has not had its terminal event.
-spec is_entered(reference()) -> boolean() | unknown.
is_entered(Ref) ->
    try
        ets:member(?TABLE, Ref)
    catch
        error:badarg -> unknown
    end.

%% @doc The process of a stream that has not ended.
-spec process(reference()) -> {ok, pid()} | error.
process(Ref) ->
    try
        {ok, ets:lookup_element(?TABLE, Ref, 2)}
    catch
        error:badarg -> error
    end.

%% @doc Its owner. One that has ended has sent its last event.
-spec owner(reference()) -> pid() | none.
owner(Ref) ->
    try
        ets:lookup_element(?TABLE, Ref, 3)
    catch
        error:badarg -> none
    end.

%% @doc Ends a stream: its owner gets `{error, cancelled}' unless it has had its
%% terminal event. A reference that is not a running stream's does no harm.
-spec cancel(reference()) -> ok.
cancel(Ref) ->
    send(Ref, {py_cancel, Ref}).

%% @doc The same, and returns when the stream's process has sent its last event.
-spec cancel_flush(reference()) -> ok.
cancel_flush(Ref) ->
    case process(Ref) of
        {ok, Pid} ->
            Monitor = erlang:monitor(process, Pid),
            Pid ! {py_cancel, Ref},
            receive
                {'DOWN', Monitor, process, Pid, _} -> gone(Ref)
            end;
        error ->
            ok
    end.

%% The last event of a process that was killed comes of the guard, which then removes the row.
gone(Ref) ->
    case is_entered(Ref) of
        true ->
            timer:sleep(1),
            gone(Ref);
        _ ->
            ok
    end.

%% @doc Lets `N' more values through.
-spec demand(reference(), pos_integer()) -> ok.
demand(Ref, N) ->
    send(Ref, {py_demand, Ref, N}).

send(Ref, Message) ->
    case process(Ref) of
        {ok, Pid} ->
            Pid ! Message,
            ok;
        error ->
            ok
    end.
