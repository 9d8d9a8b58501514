%% @doc Options of pools under a name that says nothing: a supervisor's state and reports show what its
%% children are started with, and the variables of a pool's environment are nobody's to see there.
%% @hidden
-module(py_sealed).

-export([tables/0, seal/1, open/1, forget/1, forget_all/0]).
-export_type([key/0]).

-define(TABLE, py_sealed).

-type key() :: reference().

-spec tables() -> ok.
tables() ->
    ?TABLE = ets:new(?TABLE, [named_table, public]),
    ok.

%% @doc Keeps a term for as long as the application runs, or until it is forgotten.
-spec seal(term()) -> key().
seal(Term) ->
    Key = make_ref(),
    ets:insert(?TABLE, {Key, Term}),
    Key.

-spec open(key()) -> term().
open(Key) ->
    ets:lookup_element(?TABLE, Key, 2).

-spec forget(key()) -> ok.
forget(Key) ->
    try
        ets:delete(?TABLE, Key),
        ok
    catch
        %% The application has stopped.
        error:badarg -> ok
    end.

%% @doc The supervisor whose children they were for was killed.
-spec forget_all() -> ok.
forget_all() ->
    ets:delete_all_objects(?TABLE),
    ok.
