%% @doc The requests that this node serves for others: their processes, see py_relay, with the pool
%% and the node that the request came from.
%% @hidden
-module(py_relays).

-export([tables/0, enter/2, leave/0, origin/1, number/1]).

-define(TABLE, ?MODULE).

%% @doc Makes the table; its owner outlives every relay.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, {write_concurrency, true}]),
    ok.

%% @doc The calling process serves a request of another node from now on.
-spec enter(py_pool:name(), From :: pid()) -> ok.
enter(Pool, From) ->
    try
        ets:insert(?TABLE, {self(), Pool, node(From)}),
        ok
    catch
        %% The application does not run; there is no pool either.
        error:badarg -> ok
    end.

-spec leave() -> ok.
leave() ->
    try
        ets:delete(?TABLE, self()),
        ok
    catch
        error:badarg -> ok
    end.

%% @doc The node that a request came from, by the process or the alias that its frames are for.
-spec origin(pid() | reference() | error) -> {ok, node()} | error.
origin(Pid) when is_pid(Pid) ->
    try ets:lookup(?TABLE, Pid) of
        [{Pid, _Pool, Node}] -> {ok, Node};
        [] -> error
    catch
        error:badarg -> error
    end;
origin(Call) when is_reference(Call) ->
    %% It is entered with the streams, see py_relay.
    case py_streams:process(Call) of
        {ok, Pid} -> origin(Pid);
        error -> error
    end;
origin(error) ->
    error.

%% @doc How many processes serve requests for a pool. One that was killed leaves its row.
-spec number(py_pool:name()) -> non_neg_integer().
number(Pool) ->
    Pids = [Pid || {Pid, Name, _} <- ets:tab2list(?TABLE), Name =:= Pool],
    length([Pid || Pid <- Pids, is_process_alive(Pid) orelse not ets:delete(?TABLE, Pid)]).
