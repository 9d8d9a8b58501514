%% What the modules of the application may call.
-module(py_layers_SUITE).
-compile(export_all).

-include_lib("stdlib/include/assert.hrl").

all() -> [no_circle, registered_names, exceptions_are_atoms].

%% No module calls one that, directly or by others, calls it.
no_circle(_Config) ->
    {ok, _} = xref:start(?MODULE, [{xref_mode, modules}]),
    try
        ok = xref:set_default(?MODULE, [{warnings, false}, {verbose, false}]),
        Ebin = filename:join(code:lib_dir(erlang_python), "ebin"),
        {ok, Modules} = xref:add_directory(?MODULE, Ebin),
        ?assert(lists:member(py_worker, Modules)),
        {ok, Components} = xref:q(?MODULE, "components (ME | AM)"),
        ?assertEqual([], [Circle || Circle = [_, _ | _] <- Components])
    after
        xref:stop(?MODULE)
    end.

%% The application file names every process that the application registers, and its modules.
registered_names(_Config) ->
    application:stop(erlang_python),
    Before = registered(),
    {ok, _} = application:ensure_all_started(erlang_python),
    try
        {ok, Names} = application:get_key(erlang_python, registered),
        ?assertEqual(lists:sort(Names), lists:sort(registered() -- Before)),
        {ok, Modules} = application:get_key(erlang_python, modules),
        ?assert(lists:member(py, Modules))
    after
        application:stop(erlang_python)
    end.

%% Python's own exceptions have atoms as soon as the application runs: their module is
%% loaded by then.
exceptions_are_atoms(_Config) ->
    application:stop(erlang_python),
    code:purge(py_exceptions),
    _ = code:delete(py_exceptions),
    ?assertNot(code:is_loaded(py_exceptions)),
    {ok, _} = application:ensure_all_started(erlang_python),
    try
        ?assertMatch({file, _}, code:is_loaded(py_exceptions))
    after
        application:stop(erlang_python)
    end.
