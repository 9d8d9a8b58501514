%% @doc What the mixed chaos may not leave behind: processes, rows of tables, ports, descriptors, atoms.
-module(test_mixed_leftovers).

-include("test_mixed.hrl").

-export([settled/0, measured/1, left/2, memory/0]).

-import(test_mixed_library, [is_library/1, library_processes/0]).

%% Atoms of code that is loaded late and of names of nodes.
-define(ATOMS, 100).

%% @doc Returns when all workers are there and nothing is left that they should do.
-spec settled() -> ok.
settled() ->
    test_eventually:true(fun() -> is_settled() end, 60000),
    test_workers:idle(default).

is_settled() ->
    #{size := Size} = py:info(default),
    length(test_workers:ready(default)) =:= Size andalso ets:info(py_processes, size) =:= Size.

%% @doc What must be the same before and after.
-spec measured(test_mixed_context:context()) -> map().
measured(Context) ->
    #{
        tables => tables(),
        processes => kinds_of_processes(),
        ports => lists:sort([element(2, erlang:port_info(Port, name)) || Port <- erlang:ports()]),
        descriptors => descriptors(),
        os_processes => os_processes(Context),
        atoms => erlang:system_info(atom_count),
        memory => memory()
    }.

%% @doc What differs from what was measured before, and goes on to.
-spec left(Before :: map(), test_mixed_context:context()) -> [tuple()].
left(Before, Context) ->
    try
        settled(),
        ok = py:restart_workers(default),
        settled(),
        %% The counts of Python's processes are read from the system.
        Compare = [tables, processes, ports, descriptors, os_processes],
        As = fun() -> [{Key, maps:get(Key, measured(Context))} || Key <- Compare] end,
        Was = [{Key, maps:get(Key, Before)} || Key <- Compare],
        try
            test_eventually:equal(Was, As)
        catch
            error:{never, _, _} -> ok
        end,
        Differ = [{Key, {Value -- Now, Now -- Value}} || {{Key, Value}, {Key, Now}} <- lists:zip(Was, As()), Value =/= Now, is_list(Value)] ++
            [{Key, {Value, Now}} || {{Key, Value}, {Key, Now}} <- lists:zip(Was, As()), Value =/= Now, not is_list(Value)],
        Atoms = erlang:system_info(atom_count) - maps:get(atoms, Before),
        Differ ++ [{atoms, Atoms, new_atoms(20)} || Atoms > ?ATOMS]
    catch
        error:Reason -> [{never_settled, Reason, [{Kind, process_info(Pid, current_stacktrace)} || {Pid, Kind} <- library_processes(), not lists:member(Kind, ?FEW)]}]
    end.

tables() ->
    lists:sort([
        {Name, ets:info(Table, size)}
     || Table <- ets:all(),
        Name <- [ets:info(Table, name)],
        is_atom(Name),
        is_library(Name),
        %% What was counted of errors by their class, and names of functions.
        not lists:member(Name, [py_errors])
    ]).

kinds_of_processes() ->
    lists:sort([Kind || {_, Kind} <- library_processes()]).

%% The last ones, by their numbers (erl_ext_dist(4) leaves that tag to the VM).
new_atoms(Number) ->
    Count = erlang:system_info(atom_count),
    [binary_to_term(<<131, 75, N:24>>) || N <- lists:seq(Count - Number, Count - 1)].

%% What each is of. The numbers of pipes, sockets and processes are others each time.
descriptors() ->
    {ok, Names} = file:list_dir("/proc/self/fd"),
    lists:sort([of_what(file:read_link_all("/proc/self/fd/" ++ Name)) || Name <- Names]).

of_what({ok, File}) -> re:replace(File, "[0-9]+", "N", [global, {return, list}]);
%% That of the list itself.
of_what({error, _}) -> gone.

%% What descends from this node.
os_processes(#{mark := Mark}) ->
    {ok, Names} = file:list_dir("/proc"),
    lists:sort([command(Name) || Name <- Names, is_marked(Name, Mark)]).

command(Name) ->
    case prim_file:read_file("/proc/" ++ Name ++ "/cmdline") of
        {ok, Line} -> binary:replace(binary_part(Line, 0, min(200, byte_size(Line))), <<0>>, <<" ">>, [global]);
        {error, _} -> gone
    end.

is_marked(Name, Mark) ->
    case prim_file:read_file("/proc/" ++ Name ++ "/environ") of
        {ok, Environment} -> binary:match(Environment, unicode:characters_to_binary(Mark)) =/= nomatch;
        {error, _} -> false
    end.

-spec memory() -> #{node | python => non_neg_integer()}.
memory() ->
    [erlang:garbage_collect(Pid) || Pid <- processes()],
    Python = [test_workers:memory(Pid) || Pid <- test_workers:ready(default)],
    #{node => erlang:memory(total), python => lists:sum(Python)}.
