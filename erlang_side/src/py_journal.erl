%% @doc The code that a pool's workers have run by `py:exec', in order: a worker
%% that is restarted runs it again. Code that is run once more is kept once, and
%% moves to the end.
%% @hidden
-module(py_journal).

-include("py_worker.hrl").
-include_lib("kernel/include/logger.hrl").

-export([add/2, forget/1, last/1, length/1, read/1, read/2, remove/2, since/2, tables/0]).

-define(TABLE, py_journal).

%% Past either the code is run and not kept. A larger number costs memory in
%% the node and time in every restart.
-define(MAX_ENTRIES, 1000).
-define(MAX_BYTES, 16 * 1024 * 1024).

%% @doc Makes the table, ordered by pool and number.
-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public, ordered_set]),
    ok.

%% @doc Keeps code for restarts.
-spec add(py_pool:name(), binary()) -> ok.
add(Pool, Code) ->
    Number = last(Pool) + 1,
    remove(Pool, Code),
    Kept = since(Pool, 0),
    Bytes = lists:sum([byte_size(C) || {_, C} <- Kept]) + byte_size(Code),
    ets:insert(?TABLE, {{Pool, last}, Number}),
    case erlang:length(Kept) < ?MAX_ENTRIES andalso Bytes =< ?MAX_BYTES of
        true ->
            ets:insert(?TABLE, {{Pool, Number}, Code}),
            ok;
        false ->
            ?LOG_WARNING(
                #{
                    text => "code is not kept for restarted workers: the journal is full",
                    pool => Pool,
                    entries => erlang:length(Kept),
                    bytes => Bytes,
                    advice => "use #{replay => false}, or load a module by the pool option preload"
                },
                ?LOG_META
            )
    end.

%% @doc Removes code, after it failed.
-spec remove(py_pool:name(), binary()) -> ok.
remove(Pool, Code) ->
    [ets:delete(?TABLE, {Pool, Number}) || {Number, C} <- since(Pool, 0), C =:= Code],
    ok.

%% @doc The number of the newest entry, and the code of all.
-spec read(py_pool:name()) -> {non_neg_integer(), [binary()]}.
read(Pool) ->
    read(Pool, last(Pool)).

%% @doc The code up to a number, which is returned, too.
-spec read(py_pool:name(), Last :: non_neg_integer()) -> {non_neg_integer(), [binary()]}.
read(Pool, Last) ->
    {Last, [Code || {Number, Code} <- since(Pool, 0), Number =< Last]}.

%% @doc The entries after a number.
-spec since(py_pool:name(), non_neg_integer()) -> [{pos_integer(), binary()}].
since(Pool, Number) ->
    ets:select(?TABLE, [
        {{{Pool, '$1'}, '$2'}, [{is_integer, '$1'}, {'>', '$1', Number}], [{{'$1', '$2'}}]}
    ]).

%% @doc The number of the newest entry that there was.
-spec last(py_pool:name()) -> non_neg_integer().
last(Pool) ->
    case ets:lookup(?TABLE, {Pool, last}) of
        [{_, Number}] -> Number;
        [] -> 0
    end.

%% @doc How many entries are kept.
-spec length(py_pool:name()) -> non_neg_integer().
length(Pool) ->
    erlang:length(since(Pool, 0)).

%% @doc Forgets a pool.
-spec forget(py_pool:name()) -> ok.
forget(Pool) ->
    ets:match_delete(?TABLE, {{Pool, '_'}, '_'}),
    ok.
